#!/usr/bin/python3
"""As much of journalctl as the pages of docs/ need: what a unit has written under peers/systemctl.py, without times and
levels, as `-o cat` prints it. -u names the unit, -g a pattern, -n a number of lines."""

import re
import sys

# What a line tells as fields of its own, which stands behind the text where it goes to standard error.
FIELDS = r"( (client|server|session|reason)=(\"[^\"]*\"|\S+))+$"

options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
unknown = options.keys() - {"-u", "-o", "-g", "-n"}
if unknown or options.get("-o") != "cat" or "-u" not in options:
    print(f"journalctl: not understood here: {sys.argv[1:]}", file=sys.stderr)
    sys.exit(2)
lines = []
for line in open(f"/run/units/{options['-u']}.log", errors="replace"):
    line = re.sub(r"^\S+Z +(INFO|WARN|ERROR|DEBUG) ", "", line.rstrip("\n"))
    lines.append(re.sub(FIELDS, "", line))
lines = [line for line in lines if re.search(options.get("-g", ""), line)]
print("\n".join(lines[-int(options.get("-n", 1000)) :]))

"""An FTP session that is led step by step: stepped_client.py HOST PORT FILE [SOURCE [OWN_PORT]]

FILE is the server's pub/small; SOURCE the address to connect from, empty for any, and OWN_PORT the port. Each line on
standard input is a step, and each is answered by a line: `ok …` or `failed …`.

  fetch MODE [COUNT]  fetches pub/small so many times and compares it; of several modes (PORT,PASV) each in turn
  store MODE NAME     stores it as up/NAME
  say LINE            sends a command; answers with the reply's last line
  tally MODE SECONDS  fetches again and again, whatever becomes of it; answers with the number of tries, how many were
                      whole and the longest of those in seconds, and what became of the others
  chat COUNT          negotiates so many data connections of all kinds and makes none of them
  begin MODE COUNT    listens, and sends so many bytes of the PORT or EPRT line
  finish              sends the rest of that line
  reply               waits for a reply; answers with its last line
  retrieve            fetches pub/small over the port that `begin` announced
  offer MODE          asks with PASV or EPSV and connects, no more
  collect             fetches pub/small over what `offer` has connected

Over IPv6, EPRT and EPSV stand for PORT and PASV (RFC 2428); `pasv` is PASV itself.
"""

import collections
import itertools
import os
import socket
import sys
import time
import traceback

host, port, original, *source = sys.argv[1:]
with open(original, "rb") as file:
    SMALL = file.read()
# Seconds: TCP waits for a second and more where packets were dropped.
TIMEOUT = 25 * int(os.environ.get("NETLAB_PATIENCE", "1"))


def named(mode):
    """The command that stands for a mode."""
    return {"PORT": "EPRT", "PASV": "EPSV"}.get(mode, mode) if ":" in host else mode


class Session:
    """A control connection and the data connections that it negotiates."""

    def __init__(self):
        where = (source[0], int(source[1]) if source[1:] else 0) if source else None
        self.control = socket.create_connection((host, int(port)), timeout=TIMEOUT, source_address=where)
        self.input = self.control.makefile("rb")
        self.listener = self.data = None
        self.rest = b""
        self.expect("220")
        self.command("USER anonymous", "331", "230")
        self.command("PASS nobody", "230")
        self.command("TYPE I", "200")

    def reply(self):
        """The next reply's last line (RFC 959, 4.2: a multi-line reply ends with its code and a space)."""
        line = self.input.readline().decode()
        code = line[:3]
        while line[3:4] == "-" or not line.startswith(code):
            line = self.input.readline().decode()
        return line.rstrip()

    def expect(self, *codes):
        line = self.reply()
        assert line[:3] in codes, f"{line!r} instead of {codes}"
        return line

    def command(self, line, *codes):
        self.control.sendall(line.encode() + b"\r\n")
        return self.expect(*codes)

    def announce(self, mode):
        """Listens; gives the line that says where."""
        own = self.control.getsockname()[0]
        self.listener = socket.create_server((own, 0), family=self.control.family)
        self.listener.settimeout(TIMEOUT)
        number = self.listener.getsockname()[1]
        if named(mode) == "PORT":
            return f"PORT {own.replace('.', ',')},{number >> 8},{number & 255}\r\n".encode()
        version = 2 if ":" in own else 1
        return f"EPRT |{version}|{own}|{number}|\r\n".encode()

    def connect(self, mode):
        """The data connection that the server offers."""
        line = self.command(named(mode), "227", "229")
        inside = line[line.rindex("(") + 1 : line.rindex(")")]
        if line.startswith("227"):
            numbers = inside.split(",")
            address = ".".join(numbers[:4]), int(numbers[4]) * 256 + int(numbers[5])
            if address[0] == "0.0.0.0":
                address = self.control.getpeername()[0], address[1]
        else:
            address = self.control.getpeername()[0], int(inside.split("|")[3])
        own = self.control.getsockname()[0]
        return socket.create_connection(address, timeout=TIMEOUT, source_address=(own, 0))

    def accept(self):
        data, _ = self.listener.accept()
        self.listener.close()
        data.settimeout(TIMEOUT)
        return data

    def transfer(self, mode, command):
        """A data connection, with its command sent."""
        if mode in ("PORT", "EPRT"):
            self.control.sendall(self.announce(mode))
            self.expect("200")
            self.command(command, "150", "125")
            return self.accept()
        data = self.connect(mode)
        self.command(command, "150", "125")
        return data

    def check(self, data):
        with data:
            got = b"".join(iter(lambda: data.recv(65536), b""))
        assert got == SMALL, f"{len(got)} bytes, or others"
        self.expect("226")

    def fetch(self, modes, count="1"):
        for mode in itertools.islice(itertools.cycle(modes.split(",")), int(count)):
            self.check(self.transfer(mode, "RETR pub/small"))
        return count

    def tally(self, modes, seconds):
        whole, longest, others = 0, 0, collections.Counter()
        end = time.monotonic() + float(seconds)
        for mode in itertools.cycle(modes.split(",")):
            begin = time.monotonic()
            if begin > end:
                break
            try:
                self.fetch(mode)
                whole += 1
                longest = max(longest, time.monotonic() - begin)
            except (AssertionError, OSError) as fault:
                where = "/".join(frame.name for frame in traceback.extract_tb(fault.__traceback__)[2:5])
                others[f"{mode}: {where}: {fault!r}"] += 1
        return f"{whole + others.total()} {whole} {longest:.1f} {dict(others)}"

    def store(self, mode, name):
        with self.transfer(mode, f"STOR up/{name}") as data:
            data.sendall(SMALL)
        return self.expect("226")

    def say(self, *words):
        self.control.sendall(" ".join(words).encode() + b"\r\n")
        return self.reply()

    def chat(self, count):
        for _ in range(int(count)):
            for mode in ("PORT", "EPRT"):
                line = self.announce(mode)
                self.listener.close()
                self.control.sendall(line)
                self.expect("200")
            for mode in ("PASV", "EPSV"):
                self.command(named(mode), "227", "229")

    def begin(self, mode, count):
        line = self.announce(mode)
        self.control.sendall(line[: int(count)])
        self.rest = line[int(count) :]
        return len(line)

    def finish(self):
        self.control.sendall(self.rest)

    def retrieve(self):
        self.command("RETR pub/small", "150", "125")
        self.check(self.accept())

    def offer(self, mode):
        self.data = self.connect(mode)

    def collect(self):
        self.command("RETR pub/small", "150", "125")
        self.check(self.data)


session = Session()
print("ok", flush=True)
for step in sys.stdin:
    name, *arguments = step.split()
    try:
        answer = getattr(session, name)(*arguments)
        print("ok", "" if answer is None else answer, flush=True)
    except (AssertionError, OSError, ValueError) as fault:
        print("failed", step.strip(), repr(fault), flush=True)

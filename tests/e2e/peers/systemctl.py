#!/usr/bin/python3
"""As much of systemctl as the pages of docs/ need, in a network namespace where no systemd runs: it starts, stops and
reloads a unit by the lines of its own unit file (Type=notify, oneshot, dbus, simple), outside of its sandbox. Enabling
does nothing."""

import os
import signal
import socket
import subprocess
import sys
import time

RUN = "/run/units"
PLACES = ["/etc/systemd/system", "/usr/local/lib/systemd/system", "/lib/systemd/system"]


def fail(text, code=1):
    print(text, file=sys.stderr)
    sys.exit(code)


class Unit:
    def __init__(self, name):
        self.name = name.removesuffix(".service")
        path = next((f for p in PLACES if os.path.exists(f := f"{p}/{self.name}.service")), None)
        if path is None:
            fail(f"Unit {self.name}.service not found.", 5)
        self.lines = {}
        for line in open(path):
            key, is_setting, value = line.strip().partition("=")
            if is_setting and not key.startswith("#"):
                self.lines.setdefault(key, []).append(value)
        os.makedirs(RUN, exist_ok=True)

    def one(self, key, default=""):
        return self.lines.get(key, [default])[-1]

    def file(self, kind):
        return f"{RUN}/{self.name}.{kind}"

    def pid(self):
        try:
            pid = int(open(self.file("pid")).read())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        zombie = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] == "Z"
        return None if zombie else pid

    def active(self):
        return self.pid() is not None or (self.one("RemainAfterExit") in ("yes", "true") and os.path.exists(self.file("done")))

    def words(self, command):
        may_fail = command.startswith("-")
        variables = {"$MAINPID": str(self.pid() or "")}
        for line in self.lines.get("Environment", []):
            name, _, value = line.strip('"').partition("=")
            variables[f"${name}"] = value
        words = [variables.get(word, word) for word in command.lstrip("-+!@:").split()]
        return may_fail, [word for word in words if word]

    def run(self, key):
        for command in self.lines.get(key, []):
            may_fail, words = self.words(command)
            with open(self.file("log"), "a") as log:
                code = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log).returncode
            if code and not may_fail:
                fail(f"Job for {self.name}.service failed because the control process exited with error code.\n{self.log()}")

    def log(self):
        return open(self.file("log"), errors="replace").read()

    def start(self):
        if self.active():
            return
        for name in self.one("RuntimeDirectory").split():
            os.makedirs(f"/run/{name}", exist_ok=True)
        self.run("ExecStartPre")
        kind = self.one("Type", "simple")
        if kind == "oneshot":
            self.run("ExecStart")
            open(self.file("done"), "w").close()
            return
        # firewalld 2.5 names it in its alias alone.
        alias = self.one("Alias")
        bus = self.one("BusName", alias[len("dbus-"):-len(".service")] if alias.startswith("dbus-") else "")
        if bus:
            start_bus()
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        if os.path.exists(self.file("notify")):
            os.remove(self.file("notify"))
        notify.bind(self.file("notify"))
        environment = os.environ | {"NOTIFY_SOCKET": self.file("notify")} if kind == "notify" else None
        with open(self.file("log"), "a") as log:
            program = subprocess.Popen(
                self.words(self.one("ExecStart"))[1],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        with open(self.file("pid"), "w") as file:
            file.write(str(program.pid))
        notify.settimeout(0.1)
        end = time.monotonic() + 40
        while not self.ready(kind, notify, bus):
            if program.poll() is not None or time.monotonic() > end:
                fail(f"Job for {self.name}.service failed.\n{self.log()}")
        # One that refuses what it reads ends at once.
        time.sleep(0.2)
        if program.poll() is not None:
            fail(f"Job for {self.name}.service failed.\n{self.log()}")

    def ready(self, kind, notify, bus):
        if kind == "notify":
            try:
                return b"READY=1" in notify.recv(4096)
            except TimeoutError:
                return False
        return not bus or "boolean true" in ask_bus("NameHasOwner", bus)

    def stop(self):
        self.run("ExecStop")
        pid = self.pid()
        if pid:
            os.kill(pid, signal.SIGTERM)
            end = time.monotonic() + 20
            while self.pid():
                if time.monotonic() > end:
                    fail(f"{self.name} does not end")
                time.sleep(0.02)
        for kind in ("pid", "done"):
            if os.path.exists(self.file(kind)):
                os.remove(self.file(kind))

    def reload(self):
        if not self.active():
            fail(f"{self.name}.service is not active, cannot reload.")
        self.run("ExecReload")
        time.sleep(0.3)


def ask_bus(method, argument):
    line = ["dbus-send", "--system", "--print-reply", "--dest=org.freedesktop.DBus", "/"]
    line += [f"org.freedesktop.DBus.{method}", f"string:{argument}"]
    return subprocess.run(line, capture_output=True, text=True).stdout


def start_bus():
    if ask_bus("NameHasOwner", "org.freedesktop.DBus"):
        return
    os.makedirs("/run/dbus", exist_ok=True)
    subprocess.run(["dbus-daemon", "--system", "--fork"], check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


words = [word for word in sys.argv[1:] if not word.startswith("-")]
now = "--now" in sys.argv
if not words:
    fail("systemctl: nothing to do", 2)
verb, names = words[0], words[1:]
if verb == "daemon-reload":
    sys.exit(0)
for unit in map(Unit, names):
    match verb:
        case "start":
            unit.start()
        case "stop":
            unit.stop()
        case "restart":
            unit.stop()
            unit.start()
        case "reload":
            unit.reload()
        case "enable":
            if now:
                unit.start()
        case "disable":
            if now:
                unit.stop()
        case "is-active":
            print("active" if unit.active() else "inactive")
            sys.exit(0 if unit.active() else 3)
        case "status":
            print(f"{unit.name}.service\n  Active: {'active (running)' if unit.active() else 'inactive (dead)'}\n{unit.log()}")
            sys.exit(0 if unit.active() else 3)
        case _:
            fail(f"systemctl: {verb} is not understood here", 2)

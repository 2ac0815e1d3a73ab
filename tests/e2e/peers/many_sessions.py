"""Many FTP sessions that speak at once: many_sessions.py HOST PORT SESSIONS COMMANDS

All log in. Then, for every line on standard input, each of them sends so many NOOPs, every one in a segment of its own;
once all have been sent, and again once each has got its reply, in order, that is said in a line.
"""

import socket
import sys

host, port, sessions, commands = sys.argv[1], *map(int, sys.argv[2:])
TIMEOUT = 60  # seconds: what was dropped comes again after one, two, four, …


def expect(session, code):
    line = session.input.readline().decode()
    assert line.startswith(code + " "), f"{line!r} instead of {code}"


class Session:
    def __init__(self):
        self.control = socket.create_connection((host, port), timeout=TIMEOUT)
        self.control.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = self.control.makefile("rb")
        expect(self, "220")
        for command in ("USER anonymous", "PASS nobody"):
            self.control.sendall(command.encode() + b"\r\n")
            assert self.input.readline()[:3] in (b"331", b"230")


everyone = [Session() for _ in range(sessions)]
print("ok", flush=True)
for _ in sys.stdin:
    for session in everyone:
        for _ in range(commands):
            session.control.sendall(b"NOOP\r\n")
    print("sent", flush=True)
    for session in everyone:
        for _ in range(commands):
            expect(session, "200")
    print("ok", flush=True)

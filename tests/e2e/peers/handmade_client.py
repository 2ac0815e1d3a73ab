"""An FTP client that sends what no real one does, and checks that it works all the same.

handmade_client.py HOST PORT SCENARIO MODE {nagle|nodelay} FILE

FILE is the server's pub/small. Each scenario logs in, fetches pub/small in MODE a number of times and compares.
"""

import socket
import sys
import time

host, port, scenario, mode, delay, original = sys.argv[1:]
with open(original, "rb") as file:
    SMALL = file.read()
IAC, IP, DM = b"\xff", b"\xf4", b"\xf2"
PAUSE = 0.005  # seconds between two pieces of a line


class Session:
    """A control connection and the data connections that it negotiates."""

    def __init__(self):
        self.control = socket.create_connection((host, int(port)), timeout=60)
        self.control.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, delay == "nodelay")
        self.input = self.control.makefile("rb")
        greeting = self.expect("220")
        # Newer than 1.5.7: one that may lose a RETR sent right behind PORT, and transfers after an ABOR.
        self.is_newer_pyftpdlib = "pyftpdlib" in greeting and "pyftpdlib 1.5.7 " not in greeting
        self.send([b"USER anonymous\r\n"])
        if self.reply().startswith("331"):
            self.send([b"PASS nobody\r\n"])
            self.expect("230")
        self.command("TYPE I", "200")

    def send(self, pieces):
        for number, piece in enumerate(pieces):
            if number:
                time.sleep(PAUSE)
            self.control.sendall(piece)

    def reply(self):
        """The next reply's last line (RFC 959, 4.2: a multi-line reply ends with its code and a space)."""
        line = self.input.readline().decode()
        code = line[:3]
        while line[3:4] == "-" or not line.startswith(code):
            line = self.input.readline().decode()
        print("<", line.rstrip(), flush=True)
        return line

    def expect(self, *codes):
        line = self.reply()
        assert line[:3] in codes, f"{line!r} instead of {codes}"
        return line

    def command(self, line, *codes):
        self.send([line.encode() + b"\r\n"])
        return self.expect(*codes)

    def listen(self):
        """A listening socket and the command that announces it."""
        family = self.control.family
        listener = socket.create_server(("", 0), family=family)
        listener.settimeout(60)
        own, number = self.control.getsockname()[0], listener.getsockname()[1]
        if mode.upper() == "PORT":
            numbers = own.split(".") + [str(number >> 8), str(number & 255)]
            return listener, f"{mode} {','.join(numbers)}\r\n".encode()
        version = 2 if family == socket.AF_INET6 else 1
        return listener, f"{mode} |{version}|{own}|{number}|\r\n".encode()

    def connect(self, line):
        """The data connection that a 227 or 229 line offers."""
        inside = line[line.rindex("(") + 1 : line.rindex(")")]
        if line.startswith("227"):
            numbers = inside.split(",")
            address = ".".join(numbers[:4]), int(numbers[4]) * 256 + int(numbers[5])
        else:
            address = self.control.getpeername()[0], int(inside.split("|")[3])
        return socket.create_connection(address, timeout=60)

    def fetch(self, pieces=lambda line: [line], before=b"", behind=b"", fill=0):
        """Fetches pub/small; the line that negotiates is sent in these pieces, with these bytes around it. With
        `fill`, commands go before it until line and all are that many bytes."""
        retrieve = b"RETR pub/small\r\n"
        if mode.upper() in ("PORT", "EPRT"):
            listener, line = self.listen()
            if fill:
                count, last = divmod(fill - len(line), 100)
                before = noop(100) * (count - 1) + noop(100 + last)
            self.send(pieces(before + line + behind))
            for _ in range(before.count(b"\n")):
                self.reply()
            if behind:
                # pyftpdlib makes the data connection before it says 200, and reads on meanwhile.
                answers = {self.expect("200", "150", "125")[:3] for _ in range(2)}
                assert "200" in answers and len(answers) == 2, answers
            else:
                self.expect("200")
                self.send([retrieve])
                self.expect("150", "125")
            data, _ = listener.accept()
            listener.close()
        else:
            line = mode.encode() + b"\r\n"
            self.send(pieces(before + line))
            for _ in range(before.count(b"\n")):
                self.reply()
            data = self.connect(self.expect("227", "229"))
            self.send([retrieve])
            self.expect("150", "125")
        check(data)
        self.expect("226")

    def quit(self):
        self.command("QUIT", "221")


def check(data):
    """Reads a data connection to its end."""
    data.settimeout(60)
    with data:
        got = b"".join(iter(lambda: data.recv(65536), b""))
    assert got == SMALL, f"{len(got)} bytes, or others"


def in_two(session):
    """Each cut once: PORT |10,… up to …\\r|\\n."""
    longest = len(session.listen()[1]) if mode in ("PORT", "EPRT") else 6
    for cut in range(1, longest):
        session.fetch(pieces=lambda line, cut=cut: [line[:cut], line[cut:]])


def bytewise(session):
    """Every byte by itself."""
    for _ in range(3):
        session.fetch(pieces=lambda line: [line[i : i + 1] for i in range(len(line))])


def in_one_segment(session):
    """A command before the line that negotiates, and the transfer behind it, in one segment."""
    behind = b"" if session.is_newer_pyftpdlib else b"RETR pub/small\r\n"
    for _ in range(5):
        session.fetch(before=b"NOOP\r\n")
        session.fetch(before=b"TYPE I\r\nNOOP\r\nMODE S\r\n", behind=behind)
        session.fetch(before=b"NOOP\r\n", behind=behind, pieces=lambda line: [line[:16], line[16:]])


def two_at_once(session):
    """Two PORT commands in one segment: the later one counts (RFC 959, 4.1.2)."""
    for _ in range(5):
        first, line = session.listen()
        session.fetch(before=line, behind=b"RETR pub/small\r\n")
        first.settimeout(0.1)
        try:
            first.accept()
        except TimeoutError:
            continue
        raise AssertionError("a data connection came to the first PORT")


def noop(length):
    """A command of this many bytes that does nothing."""
    return b"NOOP ".ljust(length - 2, b"x") + b"\r\n"


def full_segments(session):
    """Segments as long as the path allows, with a line that the ALG changes at the end, and in the middle of a
    burst."""
    for segments in (1, 3, 1, 3):
        mss = session.control.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        session.fetch(fill=segments * mss)
        session.fetch(before=b"NOOP\r\n" * 100, behind=b"RETR pub/small\r\n")


def abort(session):
    """ABOR in the middle of a transfer, as RFC 959, 4.1.3 has it: Telnet IP, then Synch (DM urgent)."""
    for _ in range(4):
        if mode in ("PORT", "EPRT"):
            listener, line = session.listen()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            session.send([line])
            session.expect("200")
            session.send([b"RETR pub/large\r\n"])
            session.expect("150", "125")
            data, _ = listener.accept()
        else:
            data = session.connect(session.command(mode, "227", "229"))
            session.command("RETR pub/large", "150", "125")
        data.recv(1000)
        session.control.sendall(IAC + IP)
        session.control.send(IAC + DM, socket.MSG_OOB)
        session.control.sendall(b"ABOR\r\n")
        data.close()
        if session.expect("426", "226", "225").startswith("426"):
            session.expect("226", "225")
        session.fetch()


def take_back(session):
    """A transfer whose data connection the client never makes, and ABOR. pyftpdlib has one reply for both. Version 1.5.7
    then transfers what it was asked for with the next data connection."""
    for _ in range(3):
        session.command("PASV", "227")
        session.command("RETR pub/small", "150", "125")
        session.command("ABOR", "225")
        session.command("CWD /", "250")
        if session.is_newer_pyftpdlib:
            continue
        if mode in ("PORT", "EPRT"):
            listener, line = session.listen()
            session.send([line])
            session.expect("200")
            data, _ = listener.accept()
            listener.close()
        else:
            data = session.connect(session.command(mode, "227", "229"))
        check(data)
        session.expect("226")


def long_reply(session):
    """Replies of one long line, once lengths have changed: pyftpdlib names the whole path."""
    session.fetch()
    session.command("CWD up", "250")
    for level in range(6):
        name = str(level) * 220
        session.command(f"MKD {name}", "257")
        session.command(f"CWD {name}", "250")
    session.command("CWD /", "250")
    session.fetch()


def logout(session):
    """A 227 that offers nothing, twice, then a real one."""
    for _ in range(2):
        line = session.command(mode, "227")
        assert line == "227 Logout.\r\n", line
    session.fetch()


def whole(session):
    """Whole lines, ten times."""
    for _ in range(10):
        session.fetch()


SCENARIOS = (in_two, bytewise, in_one_segment, two_at_once, full_segments, abort, take_back, long_reply, logout, whole)
run = next(function for function in SCENARIOS if function.__name__ == scenario)
session = Session()
run(session)
session.quit()

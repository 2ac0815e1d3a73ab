"""What the scripts of this directory share: hosts in their namespaces, packets made by hand, and conversations led from
both ends.

A script runs outside of all hosts and enters one for as long as it takes to make a socket there, which stays. LAB in the
environment (JSON) says who there is: see tests/e2e/forgeries/mod.rs.
"""

import contextlib
import ctypes
import json
import os
import select
import socket
import struct
import subprocess
import time

LAB = json.loads(os.environ["LAB"])
PATIENCE = int(os.environ.get("NETLAB_PATIENCE", "1"))
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
# Packets of ours leave with this mark; the resets of kernels that know nothing of our connections are dropped.
OWN = 7
_libc = ctypes.CDLL(None, use_errno=True)
_home = os.open("/proc/self/ns/net", os.O_RDONLY)


@contextlib.contextmanager
def inside(host):
    """Sockets made meanwhile are that host's."""
    namespace = os.open(f"/run/netns/{LAB[host]['namespace']}", os.O_RDONLY)
    assert _libc.setns(namespace, 0x40000000) == 0, os.strerror(ctypes.get_errno())
    os.close(namespace)
    try:
        yield
    finally:
        assert _libc.setns(_home, 0x40000000) == 0


def address(host):
    return LAB[host]["address"]


def nft(host, *words):
    command = ["ip", "netns", "exec", LAB[host]["namespace"], "nft", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def counter(name, table="inet witness"):
    """Packets that a counter of the router has seen."""
    return int(nft("router", "list", "counter", *table.split(), name).split("packets")[1].split()[0])


def elements(name):
    """How many elements a set or map of ftpalg has."""
    kind = "map" if name[:-1] in ("mark", "dnat", "snat") else "set"
    found = json.loads(nft("router", "-j", "list", kind, "inet", "ftpalg", name))["nftables"]
    return sum(len(entry[kind].get("elem", [])) for entry in found if kind in entry)


def until(what, is_so, limit=8):
    """Waits until something is so."""
    end = time.monotonic() + limit * PATIENCE
    while not is_so():
        assert time.monotonic() < end, f"still not: {what}"
        time.sleep(0.02)


# --- packets ------------------------------------------------------------------------------------------------------------


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip(source, destination, body, fragment=0, ident=0):
    """An IPv4 packet with TCP in it; `fragment` is the field of flags and offset."""
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), ident, fragment, 64, 6, 0) + ends
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def segment(source, destination, seq, ack=0, flags=ACK, data=b"", options=b"", window=64240, spoil=0, offset=None):
    """A TCP segment from one (address, port) to another, without its IP header. `spoil` goes into the checksum, `offset`
    takes the place of the right data offset."""
    assert len(options) % 4 == 0
    words = 5 + len(options) // 4
    field = words if offset is None else offset
    head = struct.pack(
        "!HHIIBBHHH", source[1], destination[1], seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, field << 4, flags, window, 0, 0
    )
    body = head + options + data
    pseudo = socket.inet_aton(source[0]) + socket.inet_aton(destination[0]) + struct.pack("!HH", 6, len(body))
    return body[:16] + struct.pack("!H", checksum(pseudo + body) ^ spoil) + body[18:]


def tcp(source, destination, *args, **kwargs):
    return ip(source[0], destination[0], segment(source, destination, *args, **kwargs))


def sender(host):
    """A function that lets a packet leave a host, whatever it says of its origin."""
    with inside(host):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, OWN)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)

    def send(packet, times=1):
        for _ in range(times):
            raw.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))

    return send


class Seen:
    """A TCP segment that came by."""

    def __init__(self, packet):
        head = (packet[0] & 15) * 4
        length = struct.unpack("!H", packet[2:4])[0]
        body = packet[head:length]
        sport, dport, self.seq, self.ack, offset, self.flags = struct.unpack("!HHIIBB", body[:14])
        self.source = (socket.inet_ntoa(packet[12:16]), sport)
        self.destination = (socket.inet_ntoa(packet[16:20]), dport)
        self.options, self.data = body[20 : (offset >> 4) * 4], body[(offset >> 4) * 4 :]

    @property
    def end(self):
        """The sequence number behind it."""
        return (self.seq + len(self.data) + bool(self.flags & SYN) + bool(self.flags & FIN)) & 0xFFFFFFFF

    def stamp(self):
        """TSval of the time stamp option (RFC 7323), if it is there."""
        rest = self.options
        while rest:
            if rest[0] == 8:
                return struct.unpack("!I", rest[2:6])[0]
            rest = rest[1 if rest[0] < 2 else rest[1] :]
        return None


class Tap:
    """Sees the TCP segments that come to a host or leave it by one interface."""

    def __init__(self, host):
        with inside(host):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            self.socket.bind((LAB[host]["interface"], 3))

    def drain(self):
        """What came by since the last time."""
        while select.select([self.socket], [], [], 0)[0]:
            packet, where = self.socket.recvfrom(65536)
            is_whole = packet[6:8] in (b"\0\0", b"\x40\0") and len(packet) >= (packet[0] & 15) * 4 + 20
            if where[1] == 0x0800 and packet[9] == 6 and is_whole:
                yield Seen(packet)

    def wait(self, fits, limit=4):
        """The next one that fits; None after a while."""
        end = time.monotonic() + limit * PATIENCE
        while time.monotonic() < end:
            for seen in self.drain():
                if fits(seen):
                    return seen
            time.sleep(0.005)
        return None


# --- conversations ------------------------------------------------------------------------------------------------------


class Wire:
    """One end of a control connection, in lines."""

    def __init__(self, connection):
        self.socket, self.rest = connection, b""
        connection.settimeout(10 * PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)

    def say(self, *lines):
        self.socket.sendall("".join(line + "\r\n" for line in lines).encode())

    def hear(self):
        while b"\n" not in self.rest:
            piece = self.socket.recv(65536)
            assert piece, "the connection is closed"
            self.rest += piece
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode().rstrip("\r")

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, OWN)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


LISTENERS = []


def listen(host, port):
    """A socket that listens for as long as the script runs."""
    with inside(host):
        listener = socket.create_server((address(host), port), backlog=4096)
    listener.settimeout(10 * PATIENCE)
    LISTENERS.append(listener)
    return listener


class Talk:
    """A session that is led from both its ends: a client, and a server on the second control port that says what it is
    told to say. It is logged in."""

    listeners = {}
    all = []  # a session lives until it is ended

    def __init__(self, client="client", source=0, login=True):
        self.all.append(self)
        port = LAB["ports"][1]
        if port not in self.listeners:
            self.listeners[port] = listen("server", port)
        with inside(client):
            own = socket.socket()
        own.bind((address(client), source))
        own.settimeout(10 * PATIENCE)
        own.connect((LAB["dialled"], port))
        self.host = client
        self.client, accepted = Wire(own), self.listeners[port].accept()
        self.server, self.peer = Wire(accepted[0]), accepted[1]
        if login:
            self.greet()

    def greet(self):
        self.server.say("220 made by hand")
        assert self.client.hear().startswith("220")
        self.ask("USER anonymous", "331 any password")
        self.ask("PASS nobody", "230 welcome")

    def ask(self, command, reply):
        """A command and its reply; gives both as they arrived."""
        self.client.say(command)
        command = self.server.hear()
        self.server.say(reply)
        return command, self.client.hear()

    def port(self, port, reply="200 fine"):
        """PORT for the client's own address; gives the address and port that the server read."""
        line, _ = self.ask(port_line(address(self.host), port), reply)
        return numbers(line)

    def pasv(self, port):
        """PASV; gives the address and port that the client read."""
        _, line = self.ask("PASV", f"227 Entering Passive Mode ({commas(address('server'), port)}).")
        return numbers(line.split("(")[1].rstrip(")."))

    def end(self):
        """FIN from both ends."""
        for wire in (self.client, self.server):
            wire.socket.close()
        time.sleep(0.1)


def commas(host, port):
    return f"{host.replace('.', ',')},{port >> 8},{port & 255}"


def port_line(host, port):
    return f"PORT {commas(host, port)}"


def numbers(text):
    parts = text.split(" ")[-1].split(",")
    return ".".join(parts[:4]), int(parts[4]) * 256 + int(parts[5])


def attempt(host, where, limit=0.7, source=None):
    """Tries to connect; gives the socket, or None."""
    with inside(host):
        connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
    if source:
        connection.bind(source)
    connection.settimeout(limit * PATIENCE if limit > 1 else limit)
    try:
        connection.connect(where)
    except OSError:
        connection.close()
        return None
    return connection


def works(host, where, **kwargs):
    """Whether a connection can be made. It is closed again."""
    connection = attempt(host, where, limit=3, **kwargs)
    if connection:
        connection.close()
    return connection is not None


def fails(host, where, **kwargs):
    """Whether none can be made."""
    return attempt(host, where, **kwargs) is None


# --- ends by hand -------------------------------------------------------------------------------------------------------


class End:
    """A TCP end that is led by hand, on a host whose kernel keeps out of it (forgeries/mod.rs drops its resets)."""

    def __init__(self, host, own, peer=None):
        self.own, self.peer = own, peer
        self.tap, self.send = Tap(host), sender(host)
        self.seq = struct.unpack("!I", os.urandom(4))[0]
        self.ack = self.peer_stamp = 0
        self.stamp = 1_000_000
        self.window = 64240
        self.text = b""

    def options(self, stamp=None):
        return struct.pack("!BBBBII", 1, 1, 8, 10, self.stamp if stamp is None else stamp, self.peer_stamp)

    def raw(self, data=b"", flags=ACK | PSH, at=0, ack=None, stamp=None, **kwargs):
        """A segment so far from the next one, which does not count as sent."""
        options = kwargs.pop("options", None) or self.options(stamp)
        ack = self.ack if ack is None else ack
        kwargs.setdefault("window", self.window)
        self.send(tcp(self.own, self.peer, self.seq + at, ack, flags, data, options, **kwargs))

    def wait(self, fits, limit=4):
        return self.tap.wait(lambda s: s.destination == self.own and s.source == self.peer and fits(s), limit)

    def connect(self):
        self.raw(flags=SYN, options=struct.pack("!BBHBBII", 2, 4, 1460, 8, 10, self.stamp, 0) + b"\x01\x01")
        answer = self.wait(lambda s: s.flags & SYN)
        assert answer, "no SYN-ACK"
        self.established(answer)
        self.raw(flags=ACK)

    def accept(self):
        syn = self.tap.wait(lambda s: s.destination == self.own and s.flags & (SYN | ACK) == SYN)
        assert syn, "no SYN"
        self.peer = syn.source
        self.ack, self.peer_stamp = syn.end, syn.stamp() or 0
        options = struct.pack("!BBHBBII", 2, 4, 1460, 8, 10, self.stamp, self.peer_stamp) + b"\x01\x01"
        self.raw(flags=SYN | ACK, options=options)
        self.seq += 1

    def established(self, answer):
        self.seq += 1
        self.ack, self.peer_stamp = answer.end, answer.stamp() or 0

    def say(self, line):
        """Sends a line, and waits until it is acknowledged."""
        data = line.encode() + b"\r\n"
        goal = (self.seq + len(data)) & 0xFFFFFFFF
        for _ in range(4):
            self.stamp += 1
            self.raw(data)
            if self.pump(lambda s: s.flags & ACK and s.ack == goal, limit=1):
                self.seq = goal
                return
        raise AssertionError(f"nobody acknowledges {line}")

    def pump(self, done, limit=4):
        """Takes what comes, and acknowledges it, until a segment is what is waited for."""
        end = time.monotonic() + limit * PATIENCE
        while time.monotonic() < end:
            for seen in self.tap.drain():
                if seen.destination != self.own or seen.source != self.peer:
                    continue
                self.peer_stamp = seen.stamp() or self.peer_stamp
                if seen.data and seen.seq == self.ack & 0xFFFFFFFF:
                    self.text += seen.data
                    self.ack = seen.end
                if seen.data:
                    self.raw(flags=ACK)
                if done(seen):
                    return True
            time.sleep(0.003)
        return False

    def hear(self, what):
        """Waits until this has come, and forgets it and all before it."""
        what = what.encode()
        if what not in self.text:
            self.pump(lambda s: what in self.text)
        assert what in self.text, f"{self.text} instead of {what}"
        before, self.text = self.text.split(what, 1)
        line, separator, rest = self.text.partition(b"\r\n")
        self.text = rest
        return (what + line).decode()


def run(scenarios):
    """Runs the scenario that the command line names."""
    import sys

    scenarios[sys.argv[1]]()
    print("ok", flush=True)

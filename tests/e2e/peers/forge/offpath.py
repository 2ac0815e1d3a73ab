"""Hosts that see nothing of a session and forge its packets: an outsider in the server's name, an insider in the
client's."""

import random

from lab import *


class Live:
    """A real client's session with the real server, which has announced ports before, so that it is shifted."""

    def __init__(self):
        self.tap = Tap("client")
        with inside("client"):
            self.wire = Wire(socket.create_connection((LAB["dialled"], LAB["ports"][0]), timeout=10 * PATIENCE))
        self.own = self.wire.socket.getsockname()
        self.command(None, "220")
        self.command("USER anonymous", "230")
        self.fetch()

    def command(self, line, *codes):
        if line:
            self.wire.say(line)
        reply = self.wire.hear()
        assert reply[:3] in codes, reply
        return reply

    def check(self, data):
        with data, open(LAB["small"], "rb") as original:
            got = b"".join(iter(lambda: data.recv(65536), b""))
            assert got == original.read(), "other bytes"
        self.command(None, "226")

    def fetch(self):
        """A file, active and passive."""
        with inside("client"):
            listener = socket.create_server((address("client"), 0))
        listener.settimeout(10 * PATIENCE)
        self.command(port_line(*listener.getsockname()), "200")
        self.command("RETR pub/small", "150")
        self.check(listener.accept()[0])
        where = numbers(self.command("PASV", "227").split("(")[1].rstrip(")."))
        data = attempt("client", where, limit=10)
        assert data, "no passive data connection"
        data.settimeout(10 * PATIENCE)
        self.command("RETR pub/small", "150")
        self.check(data)

    def numbers(self):
        """The sequence numbers that come next: the client's, the server's, and the server's view of the first. Nobody off
        path knows them; a test must, to miss them by little."""
        outside = Tap("server")
        list(self.tap.drain())
        self.command("NOOP", "200")
        time.sleep(0.1)
        near = [s for s in self.tap.drain() if self.own[1] in (s.source[1], s.destination[1])]
        far = [s for s in outside.drain() if LAB["ports"][0] in (s.source[1], s.destination[1])]
        ahead = lambda seen, client: max(s.end for s in seen if (s.destination[1] == LAB["ports"][0]) == client)
        self.outside = next(s.source for s in far if s.destination[1] == LAB["ports"][0])
        return ahead(near, True), ahead(near, False), ahead(far, True)


OFFSETS = [1, 2, 100, 1000, 30_000, -1, -2, -100, -30_000, 70_000, 1 << 20, -(1 << 20), 1 << 31]


def forgeries(where, seq, ack, text):
    """What is tried on a live connection, where these numbers would be right: (name, segment)."""
    # In the client's name conntrack comes first, and loses its way with data just outside of the window, whoever stands
    # beside it; so it does with several kinds of packet after each other.
    offsets = [off for off in OFFSETS if where == "outside" or off != 70_000]
    for off in offsets:
        if where == "outside":
            yield f"SYN {off}", dict(seq=seq + off, ack=0, flags=SYN)
            yield f"SYN-ACK {off}", dict(seq=seq + off, ack=ack, flags=SYN | ACK)
        yield f"FIN {off}", dict(seq=seq + off, ack=ack, flags=FIN | ACK)
        if off not in (-1, -2, -100):  # these would hold the next bytes: the receiver would take them as well
            yield f"data {off}", dict(seq=seq + off, ack=ack, flags=ACK | PSH, data=text)
    for off in (1 << 20, -(1 << 20), 1 << 31):
        yield f"data with another acknowledgment {off}", dict(seq=seq, ack=ack + off, flags=ACK | PSH, data=text)
        yield f"FIN with another acknowledgment {off}", dict(seq=seq, ack=ack + off, flags=FIN | ACK)
        yield f"acknowledgment {off}", dict(seq=seq, ack=ack + off, flags=ACK, options=b"\1\1\1\1")
    yield "data without acknowledgment", dict(seq=seq, ack=0, flags=PSH, data=text)
    yield "data in a wrong checksum", dict(seq=seq, ack=ack, flags=ACK | PSH, data=text, spoil=1)
    for off in offsets:
        yield f"RST {off}", dict(seq=seq + off, ack=0, flags=RST)
        if where == "outside":
            yield f"RST|ACK {off}", dict(seq=seq + off, ack=ack + off, flags=RST | ACK)
    for _ in range(20):
        yield "a blind RST", dict(seq=random.getrandbits(32), ack=0, flags=RST)
        blind = dict(seq=random.getrandbits(32), ack=random.getrandbits(32))
        yield "blind data", dict(blind, flags=ACK | PSH, data=text)


def from_outside():
    """In the server's name, from another link."""
    live, server = Live(), (address("server"), LAB["ports"][0])
    send = sender("outsider")
    client_next, server_next, outside_next = live.numbers()
    text = f"227 Entering Passive Mode ({commas(address('server'), 6001)}).\r\n".encode()
    listen("server", 6001)
    tried(live, send, "outside", server, live.outside, lambda: live.numbers()[1:], text)
    assert fails("client", (LAB["dialled"], 6001))


def from_inside():
    """In the client's name, from another LAN."""
    live, server = Live(), (LAB["dialled"], LAB["ports"][0])
    send = sender("insider")
    listen("client", 5001)
    tried(live, send, "inside", live.own, server, lambda: live.numbers()[:2], own_line())
    assert fails("server", (LAB["seen"], 5001))


def syns_from_inside():
    """SYNs on a live connection, in the client's name."""
    send, server = sender("insider"), (LAB["dialled"], LAB["ports"][0])
    for off in (1, -1, 1000, 70_000, 1 << 20, 1 << 31):
        live = Live()
        seq = live.numbers()[0]
        before = counter("inside")
        send(tcp(live.own, server, seq + off, 0, SYN), 5)
        until("they arrive", lambda: counter("inside") >= before + 5)
        live.fetch()


def own_line():
    return (port_line(address("client"), 5001) + "\r\n").encode()


def tried(live, send, where, source, destination, numbers, text):
    """All of it, each often enough to be taken for a retransmission that insists; and after each the session goes on."""
    seq, ack = numbers()
    for name, change in forgeries(where, seq, ack, text):
        # The right numbers move on with each exchange.
        try:
            now = numbers()
        except (OSError, AssertionError) as fault:
            raise AssertionError(f"before: {name}, after: {last}") from fault
        if "blind" not in name:
            change["seq"] += now[0] - seq
            change["ack"] += (now[1] - ack) if change["ack"] else 0
        before = counter(where)
        send(tcp(source, destination, **change), 5)
        until("they arrive", lambda: counter(where) >= before + 5)
        last = name
    live.fetch()


run(globals())

"""Open pinholes, and those who should not get through them."""

from lab import *


def one_port_twice():
    """Two sessions of one client announce the same port; each may let go of it, and must leave the other's alone."""
    listen("client", 5001)
    for letting_go in ("end", "refuse", "rename"):
        first, second = Talk(), Talk()
        first.port(5001)
        where = second.port(5001)
        if letting_go == "end":
            first.end()
        elif letting_go == "refuse":
            first.port(5001, "500 no")
        else:
            first.port(5002)
        assert works("server", where), letting_go
        second.end()
        first.end()
        assert fails("server", where), letting_go


def opened(port=5001):
    """A session and its open pinhole: where the server finds the client."""
    talk = Talk()
    return talk, talk.port(port)


def reaches(where, **kwargs):
    """Whether the server gets through, and to the client's own listener."""
    while select.select([LISTENERS[0]], [], [], 0)[0]:
        LISTENERS[0].accept()[0].close()
    connection = attempt("server", where, limit=3, **kwargs)
    if not connection:
        return False
    accepted = LISTENERS[0].accept()[0]
    accepted.sendall(b"here")
    assert connection.recv(4) == b"here"
    return True


def strays():
    """What does not begin a connection, or is stopped by the administrator's filter, does not use a pinhole up."""
    listen("client", 5001)
    send = sender("server")
    seen = Tap("client")
    talk, where = opened()
    assert reaches(where), "the control"
    for flags in (ACK, ACK | PSH, SYN | ACK, FIN | ACK, RST, RST | ACK, 0, FIN, SYN | RST, SYN | FIN):
        _, where = opened()
        for port in (20, 7000):
            send(tcp((address("server"), port), where, 1000, 2000, flags, b"" if flags & SYN else b"stray"), 5)
        assert reaches(where), flags
    stray = [s for s in seen.drain() if s.source[1] in (20, 7000)]
    assert not stray, [(s.source, s.flags) for s in stray]
    # A SYN that the administrator drops: in forward, behind the DNAT, and at the first hook of all.
    for hook, chain in (("forward", "forward"), ("prerouting", "first")):
        priority = "-1" if hook == "forward" else "-350"
        nft("router", f"add table inet stop {{ chain {chain} {{ type filter hook {hook} priority {priority}; }}; }}")
        nft("router", f"add rule inet stop {chain} tcp sport 7001 counter drop")
        _, where = opened()
        assert fails("server", where, source=(address("server"), 7001))
        assert " packets 0 " not in nft("router", "list", "table", "inet", "stop"), "nothing came"
        assert reaches(where), hook
        nft("router", "delete table inet stop")


def one_connection():
    """One pinhole, one connection, of the one peer that was meant."""
    listen("client", 5001)
    server = address("server")
    _, where = opened()
    assert reaches(where) and fails("server", where), "used up"
    # From the port that the first one came from, and from port 20.
    _, where = opened()
    assert reaches(where, source=(server, 7002))
    assert fails("server", where, source=(server, 20)) and fails("server", where, source=(server, 7003))
    # Another source address: nothing passes, and nothing is used up.
    other = server.rsplit(".", 1)[0] + ".77"
    subprocess.run(
        ["ip", "-n", LAB["server"]["namespace"], "address", "add", f"{other}/24", "dev", LAB["server"]["interface"]],
        check=True,
    )
    _, where = opened()
    arrived = counter("outside")
    assert fails("server", where, source=(other, 0)) and fails("outsider", where)
    assert counter("outside") > arrived, "nothing came"
    assert reaches(where)
    # A passive one belongs to the client that asked: another host of the LAN does not get through.
    listen("server", 6001)
    talk = Talk()
    where = talk.pasv(6001)
    arrived = counter("inside")
    assert fails("insider", where) and counter("inside") > arrived
    assert works("client", where) and fails("client", where)


def racing():
    """Two SYNs at once: one of them gets through."""
    seen, send = Tap("client"), sender("server")
    for round_ in range(20):
        port = 5100 + round_
        _, where = opened(port)
        for source in range(8000, 8004):
            send(tcp((address("server"), source), where, 1000, 0, SYN))
        assert seen.wait(lambda s: s.destination[1] == port and s.flags & SYN), "none got through"
        time.sleep(0.05)
        more = [s for s in seen.drain() if s.destination[1] == port and s.flags & SYN]
        assert not more, [s.source for s in more]


def ended():
    """A pinhole closes with its session, and with its time."""
    listen("client", 5001)
    listen("server", 6001)
    for how in ("fin", "reset by client", "reset by server", "its time"):
        talk, where = opened()
        other = Talk()
        passive = other.pasv(6001)
        assert elements("open4") == 2
        for one in (talk, other):
            if how == "fin":
                one.end()
            elif how == "reset by client":
                one.client.reset()
            elif how == "reset by server":
                one.server.reset()
        if how == "its time":
            time.sleep(5.2)
        time.sleep(0.1)
        assert elements("open4") == 0, how
        assert fails("server", where) and fails("client", passive), how
    _, where = opened()
    assert reaches(where), "the control"


def another_s_port():
    """A client names the port of another client's pinhole, behind the same address, to have its connection."""
    listen("client", 5001)
    thief = listen("insider", 5001)
    for order in ("asked", "open"):
        mine, other = Talk("client"), Talk("insider")
        if order == "open":
            where = mine.port(5001)
            stolen = other.port(5001)
        else:
            # Both have asked before either is answered.
            mine.client.say(port_line(address("client"), 5001))
            where = numbers(mine.server.hear())
            stolen = other.port(5001)
            mine.server.say("200 fine")
            mine.client.hear()
        assert where != stolen, "one port for two clients"
        assert reaches(where), order
        assert not select.select([thief], [], [], 0.1)[0], "the thief has it"
        connection = attempt("server", stolen, limit=3)
        assert connection and thief.accept()[0], "the control: the thief's own"
        for talk in (mine, other):
            talk.end()


def marks():
    """The mark bit that filters accept is on the first SYN of an open pinhole, and on nothing else from outside."""
    listen("client", 5001)
    send = sender("outsider")
    before, arrived = counter("marked"), counter("outside")
    _, where = opened()
    server, outsider = address("server"), address("outsider")
    for kind in range(64):
        for source in (outsider, server):
            packet = bytearray(tcp((source, 4000 + kind), (where[0], where[1] + (source == server)), 1000, 0, kind))
            for service in (0, 0x20, 0xFF):  # the old TOS, DSCP and ECN
                packet[1] = service
                packet[10:12] = b"\0\0"
                packet[10:12] = struct.pack("!H", checksum(bytes(packet[:20])))
                send(bytes(packet))
    assert counter("outside") >= arrived + 300, "they did not come"
    assert counter("marked") == before, "somebody else's packet bears the mark"
    assert reaches(where)
    assert counter("marked") == before + 1, "the control"
    assert counter("marked_behind") == 0


run(globals())

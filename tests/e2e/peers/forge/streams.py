"""Ends of a control connection that break TCP's own rules, so that router and peer might read different bytes."""

import threading

from lab import *


def acknowledged_ahead():
    """NAT slipstreaming with an accomplice that acknowledges what was never sent: the router must not take it that the
    HTTP request's head has passed, and read the body for a session's first lines."""
    listen("client", 5001)
    login, port = "USER a\r\nPASS b\r\n", port_line(address("client"), 5001) + "\r\n"
    head = f"POST / HTTP/1.1\r\nHost: {LAB['dialled']}\r\nContent-Length: {len(login + port)}\r\n\r\n"
    for skipped in (len(head), len(head) - 1, len(head) + 3, 1):
        # The bare acknowledgment is queued because of its odd options.
        slipstream(head + login, port, lambda end: end.raw(flags=ACK, ack=end.ack + skipped, options=b"\1\1\1\1"))
    # The control: the same server, where the client speaks FTP.
    slipstream(login, port, lambda end: None, opens=True)


def slipstream(first, rest, trick, opens=False):
    """The client sends all at once; the server's window lets it have `rest` when the login is answered."""
    end = End("server", (address("server"), LAB["ports"][1]))
    end.window = len(first)
    with inside("client"):
        client = socket.socket()
    client.settimeout(10 * PATIENCE)
    dial = threading.Thread(target=client.connect, args=((LAB["dialled"], LAB["ports"][1]),))
    dial.start()
    end.accept()
    assert end.wait(lambda s: s.flags == ACK)
    dial.join()
    end.say("220 welcome")
    trick(end)
    end.window = 0
    time.sleep(0.1)
    client.sendall((first + rest).encode())
    end.hear("PASS")
    for reply in ("331 a password", "230 come in"):
        end.say(reply)
    end.window = 64240
    end.raw(flags=ACK)
    _, port = numbers(end.hear("PORT"))
    end.say("200 fine")
    assert (works if opens else fails)("server", (LAB["seen"], port)), (first, opens)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


PORTS = iter(range(20000, 20999))


def signed_in(port=None):
    """A session that a client by hand has with the real server on the first control port."""
    end = End("client", (address("client"), port or next(PORTS)), (LAB["dialled"], LAB["ports"][0]))
    end.connect()
    end.hear("220")
    end.say("USER anonymous")
    end.hear("230")
    return end


def own_line(port):
    return (port_line(address("client"), port) + "\r\n").encode()


def is_open(port):
    """Whether anything gets through to the client's port, under its own number outside."""
    return not fails("server", (LAB["seen"], port))


def other_bytes():
    """A client whose segment the server discards (an old time stamp, RFC 7323) while the router reads it, and which then
    sends others in their place."""
    listen("client", 5001)
    listen("client", 5002)
    end = signed_in()
    # The control: the line as it is.
    end.say(own_line(5001).decode().rstrip())
    end.hear("200")
    assert is_open(5001)
    innocent, evil, noop = own_line(5001), own_line(5002), b"NOOP"
    cases = [
        ("another port", innocent, [(0, evil)]),
        ("other bytes behind", innocent + b"NOOP\r\n", [(0, innocent + evil)]),
        ("the last bytes alone", innocent, [(len(innocent) - 4, evil[-4:])]),
        ("one byte", innocent, [(len(innocent) - 3, b"8")]),
        ("overlap at the end", innocent, [(len(innocent) - 4, evil[-4:] + evil)]),
        ("a command hidden", b"NOOP 10,0,0,2,19,138\r\n", [(0, evil)]),
        ("more than there was", innocent, [(-1, b"\n" + evil)]),
    ]
    for name, first, others in cases:
        end = signed_in()
        end.raw(first, stamp=1)
        time.sleep(0.05)
        for at, other in others:
            for _ in range(5):
                end.stamp += 1
                end.raw(other, at=at)
        time.sleep(0.1)
        assert not end.pump(lambda s: s.flags & ACK and 0 < (s.ack - end.seq) & 0xFFFFFFFF < 1 << 31, limit=0.1), name
        assert not is_open(5002), name
        # The session goes on with what was said first.
        end.say(first.decode().rstrip())
        end.hear("200")
        assert not is_open(5002), name


def other_bytes_from_the_server():
    """The same from the server: a 227 that the client discards, and another in its place."""
    listen("server", 6001)
    listen("server", 6002)
    for kind in ("whole", "end", "behind"):
        end, client = hand_made_server()
        client.sendall(b"PASV\r\n")
        end.hear("PASV")
        offers = [f"227 Entering Passive Mode ({commas(address('server'), port)}).\r\n".encode() for port in (6001, 6002)]
        end.raw(offers[0], stamp=1)
        time.sleep(0.05)
        for _ in range(5):
            end.stamp += 1
            if kind == "whole":
                end.raw(offers[1])
            elif kind == "end":
                end.raw(offers[1][-8:], at=len(offers[1]) - 8)
            else:
                end.raw(offers[1][-8:] + offers[1], at=len(offers[1]) - 8)
        client.settimeout(0.5)
        try:
            raise AssertionError(f"the client has read {client.recv(1000)}")
        except TimeoutError:
            pass
        assert fails("client", (LAB["dialled"], 6002)), kind
        end.say(offers[0].decode().rstrip())
        assert b"23,113" in client.recv(1000) and works("client", (LAB["dialled"], 6001)), "the control"
        client.close()


def hand_made_server():
    """A session of a real client's TCP with a server by hand."""
    end = End("server", (address("server"), LAB["ports"][1]))
    with inside("client"):
        client = socket.socket()
    client.settimeout(10 * PATIENCE)
    dial = threading.Thread(target=client.connect, args=((LAB["dialled"], LAB["ports"][1]),))
    dial.start()
    end.accept()
    assert end.wait(lambda s: s.flags == ACK)
    dial.join()
    for reply, command in (("220 welcome", b"USER a\r\n"), ("331 yes", b"PASS b\r\n"), ("230 in", b"")):
        end.say(reply)
        client.recv(1000)
        if command:
            client.sendall(command)
            end.hear(command[:4].decode())
    return end, client


def flawed(line):
    """Segments that hold a line and that no receiver would take, as changes to the one that it would take."""
    return {
        "a wrong checksum": {"spoil": 1},
        "a data offset below 5": {"offset": 4},
        "a data offset behind the end": {"offset": 15, "options": b"\1\1\1\1", "data": line[:8]},
        "no acknowledgment": {"flags": PSH},
        "an acknowledgment far ahead": {"ack": 1 << 29},
        "an acknowledgment far back": {"ack": -(1 << 29)},
        "far ahead": {"at": 1 << 20},
        "a little outside the window": {"at": 90_000},
        "far back": {"at": -(1 << 20)},
        "half a circle away": {"at": 1 << 31},
        "a reset, not in its place": {"flags": RST | ACK, "at": -1, "data": b"\n" + line},
    }


def no_receiver_would_take_it():
    """Lines in segments that the other end discards are not read by the router either: both directions."""
    listen("client", 5002)
    end = signed_in()
    with_sessions("client to server", end, own_line(5002), lambda: is_open(5002))
    end.say(own_line(5002).decode().rstrip())
    end.hear("200")
    assert is_open(5002), "the control"
    listen("server", 6002)
    end, client = hand_made_server()
    client.sendall(b"PASV\r\n")
    end.hear("PASV")
    offer = f"227 Entering Passive Mode ({commas(address('server'), 6002)}).\r\n".encode()
    with_sessions("server to client", end, offer, lambda: not fails("client", (LAB["dialled"], 6002)))
    end.say(offer.decode().rstrip())
    assert works("client", (LAB["dialled"], 6002)), "the control"


def with_sessions(direction, end, line, is_open):
    for name, change in flawed(line).items():
        change = {"data": line, **change}
        if "ack" in change:
            change["ack"] = end.ack + change["ack"]
        before = counter("at_ends")
        for _ in range(5):
            end.raw(**change)
        until("they arrive", lambda: counter("at_ends") >= before + 5)
        assert not is_open(), (direction, name)
    # Headers that end too early.
    whole = tcp(end.own, end.peer, end.seq, end.ack, ACK | PSH, line)
    for length in (20, 24, 32, 39):
        cut = bytearray(whole[:length])
        cut[2:4] = struct.pack("!H", length)
        cut[10:12] = b"\0\0"
        cut[10:12] = struct.pack("!H", checksum(bytes(cut[:20])))
        end.send(bytes(cut), 2)
    assert not is_open(), (direction, "cut off")


def fragments():
    """IP fragments reach the router's tap put together, or not at all."""
    listen("client", 5001)
    listen("client", 5002)
    send = sender("client")

    def in_pieces(end, body, at, ident, other=None):
        """The segment in two fragments, and a third that says something else where the second stands."""
        source, destination = end.own[0], end.peer[0]
        send(ip(source, destination, body[:at], fragment=0x2000, ident=ident))
        if other:
            send(ip(source, destination, other[at:], fragment=at // 8, ident=ident))
        send(ip(source, destination, body[at:], fragment=at // 8, ident=ident))

    end = signed_in()
    for number, at in enumerate((8, 24, 32, 40)):
        line, evil = own_line(5001), own_line(5002)
        body, other = (segment(end.own, end.peer, end.seq, end.ack, ACK | PSH, text, end.options()) for text in (line, evil))
        # Overlaps with other content: the checksum can be right for one of them only.
        overlap = segment(end.own, end.peer, end.seq, end.ack, ACK | PSH, evil, end.options())
        in_pieces(end, overlap, at, 100 + number, body)
        time.sleep(0.05)
        # The first of two that stand in one place is the one that counts, and the checksum is not its.
        assert not is_open(5002), at
    for number, at in enumerate((24, 32, 40)):
        end.stamp += 1
        body = segment(end.own, end.peer, end.seq, end.ack, ACK | PSH, own_line(5001), end.options())
        goal = end.seq + len(own_line(5001)) & 0xFFFFFFFF
        in_pieces(end, body, at, 200 + number)
        assert end.pump(lambda s: s.ack == goal), f"whole again, cut at {at}"
        end.seq = goal
        end.hear("200")
        assert is_open(5001), "the control"


run(globals())

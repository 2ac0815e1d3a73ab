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


run(globals())

"""Hosts that ask for more than there is."""

import random

from lab import *


def memory():
    """The daemon's resident memory in KiB."""
    with open(f"/proc/{LAB['daemon']}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


SETS = ("open4", "pending4", "dnat4", "snat4", "mark4")


def asking_for_ports():
    """One session asks for thousands of pinholes, without waiting and without using one; others do not feel it."""
    listen("client", 5001)
    listen("server", 6001)
    greedy, other = Talk("insider"), Talk("client")
    before = memory()
    # One after the other: each takes the place of the one before.
    for number in range(300):
        greedy.port(10_000 + number)
        greedy.pasv(20_000 + number)
    assert elements("open4") == 1, elements("open4")
    # All at once, and never answered: a few are expected, the rest refused.
    greedy.server.socket.settimeout(20 * PATIENCE)
    lines = [port_line(address("insider"), 10_000 + number) for number in range(5000)]
    greedy.client.socket.setblocking(True)
    for start in range(0, len(lines), 50):
        greedy.client.say(*lines[start : start + 50])
        heard = [greedy.server.hear() for _ in lines[start : start + 50]]
        assert all(line.startswith("PORT ") for line in heard)
    assert elements("pending4") <= 8 and sum(elements(name) for name in SETS) <= 8 + 3, [elements(name) for name in SETS]
    greedy.server.say(*["200 fine"] * 5000)
    for _ in range(5000):
        greedy.client.hear()
    assert elements("open4") <= 1
    where = other.port(5001)
    assert works("server", where) and works("client", other.pasv(6001)), "another client's session"
    # PASV without end: behind more of them than are kept account of, nothing opens any more in this session.
    greedy.client.say(*["PASV"] * 3000)
    for _ in range(3000):
        greedy.server.hear()
    offer = f"227 Entering Passive Mode ({commas(address('server'), 6001)})."
    greedy.server.say(*[offer] * 3000)
    for _ in range(3000):
        greedy.client.hear()
    assert elements("open4") <= 1 and fails("insider", (LAB["dialled"], 6001))
    other.port(5001)
    assert works("server", where), "another client's session"
    assert memory() - before < 8192, f"{memory() - before} KiB more"


def many_sessions():
    """One client opens thousands of sessions, each with a pinhole; those of another go on, and what it held is free when it
    has gone."""
    listen("client", 5001)
    other = Talk("client")
    before = memory()
    talks = [Talk("insider") for _ in range(1100)]
    for number, talk in enumerate(talks):
        talk.port(10_000 + number)
    # The cap of one client (MAX_PINHOLES_PER_CLIENT).
    assert elements("open4") == 1024, elements("open4")
    where = other.port(5001)
    assert works("server", where), "another client's session"
    assert works("server", Talk("client").port(5001)), "another client's new session"
    assert memory() - before < 65_536, f"{memory() - before} KiB more"
    for talk in talks:
        talk.client.reset()
    until("its pinholes are closed", lambda: elements("open4") == 0)
    assert numbers(Talk("insider").ask(port_line(address("insider"), 10_000), "200 fine")[0])
    assert elements("open4") == 1


def syns():
    """SYNs with forged sources, to hosts that are not there, until the set of new control connections is full."""
    listen("client", 5001)
    other = Talk("client")
    send = sender("insider")
    arrived, begun = counter("inside"), counter("sessions_begun", "inet ftpalg")
    nowhere = address("server").rsplit(".", 1)[0]
    sent = 0
    end = time.monotonic() + 25 * PATIENCE
    while counter("sessions_unseen", "inet ftpalg") == 0:
        assert time.monotonic() < end, f"the set is not full after {sent} SYNs"
        for _ in range(4000):
            source = (f"10.0.9.{random.randrange(3, 250)}", random.randrange(1024, 65536))
            # Several hosts, for masquerade has no more than 64,512 ports for each.
            send(tcp(source, (f"{nowhere}.{random.randrange(210, 250)}", 21), random.getrandbits(32), 0, SYN))
            sent += 1
        # The session that lives does not feel it.
        if sent % 20_000 == 0:
            assert works("server", other.port(5001)), f"after {sent} SYNs"
    assert counter("inside") - arrived > 60_000 and counter("sessions_begun", "inet ftpalg") - begun > 60_000
    assert works("server", other.port(5001)), "the session that lives"
    # What begins at the bound is not looked at, and not hindered either.
    unseen = Talk("client")
    assert unseen.ask("NOOP", "200 fine") == ("NOOP", "200 fine")
    # Ten seconds later there is room again.
    time.sleep(11)
    assert works("server", Talk("client").port(5001)), "a session that begins afterwards"
    assert works("server", other.port(5001)), "the session that lives"
    print(f"{sent} SYNs")


run(globals())

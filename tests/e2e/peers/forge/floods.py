"""Hosts that ask for more than there is."""

import random

from lab import *


def memory():
    """The daemon's resident memory in KiB."""
    with open(f"/proc/{LAB['daemon']}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


SETS = ("open4", "pending4", "dnat4", "snat4", "mark4")


def unused():
    """How many pinholes are open through which no connection has come."""
    return elements("open4") - elements("spent4")


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
    assert unused() <= 1
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
    assert unused() <= 1 and fails("insider", (LAB["dialled"], 6001))
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
    # All at once: a reset is sent once, and what the queue can't hold is lost. conntrack has seen it.
    for talk in talks:
        talk.client.reset()
    until("the pinholes of sessions that were reset are closed", lambda: unused() == 0, limit=20)
    listen("insider", 9001)
    assert works("server", Talk("insider").port(9001)), "the client that has come to its senses"


def syns():
    """SYNs with forged sources, to hosts that are not there, until the set of new control connections is full."""
    listen("client", 5001)
    other = Talk("client")
    send = sender("insider")
    nowhere = address("server").rsplit(".", 1)[0]
    # So many SYNs in ten seconds are more than a script sends on a busy machine: most of them are put in as the rule would
    # have put them in.
    room = 131_072 - elements("control_new4")
    filled = [f"{nowhere}.{240 + n // 60_000} . 21 . {LAB['seen']} . {1024 + n % 60_000} timeout 30s" for n in range(room)]
    with open(os.path.join(LAB["dir"], "filled.nft"), "w") as file:
        file.write("add element inet ftpalg control_new4 { " + ", ".join(filled) + " }\n")
    nft("router", "-f", file.name)
    assert works("server", other.port(5001)), "the session that lives"

    def flood(ports):
        for port in ports:
            source = (f"10.0.9.{3 + port % 250}", port)
            send(tcp(source, (f"{nowhere}.{210 + port % 16}", 21), random.getrandbits(32), 0, SYN))

    arrived, begun = counter("inside"), counter("sessions_begun", "inet ftpalg")
    flood(range(1024, 4024))
    until("they arrive", lambda: counter("inside") - arrived >= 3000)
    assert counter("sessions_begun", "inet ftpalg") - begun >= 3000
    assert counter("sessions_unseen", "inet ftpalg") > 1000, "the set is not full"
    # What begins at the bound is not looked at, and not hindered either. The session that lives may have left its place in
    # the set for one in the other meanwhile.
    flood(range(5024, 5124))
    unseen = Talk("client")
    line, _ = unseen.ask(port_line(address("client"), 5001), "200 fine")
    assert line == port_line(address("client"), 5001), line
    assert works("server", other.port(5001)), "the session that lives"
    # Later there is room again.
    until("the set is empty but for those who are logged in", lambda: elements("control_new4") < 10, limit=40)
    # The kernel counts those that have run down until it has collected them.
    until("a session that begins afterwards works", lambda: works("server", Talk("client").port(5001)), limit=20)
    # What a SYN puts in stays for ten seconds.
    def some_get_in():
        flood(range(12_024, 12_524))
        return elements("control_new4") >= 500

    # Again and again: the kernel may have collected no more than made room for that session.
    until("they are in", some_get_in, limit=20)
    until("they are gone", lambda: elements("control_new4") < 10, limit=15)


def answered_syns():
    """SYNs with forged sources, each of which the server answers, and nobody that."""
    look_up = ["ip", "netns", "exec", LAB["insider"]["namespace"], "cat", "/sys/class/net/router/address"]
    hardware = subprocess.run(look_up, check=True, capture_output=True, text=True).stdout.strip()
    # Else the router would tell the server that they are not there.
    for number in range(3, 7):
        neighbour = [f"10.0.9.{number}", "lladdr", hardware, "dev", "insider"]
        subprocess.run(["ip", "-n", LAB["router"]["namespace"], "neighbour", "replace", *neighbour], check=True)
    send = sender("insider")
    for number in range(1000):
        source = (f"10.0.9.{3 + number % 4}", 1024 + number)
        send(tcp(source, (LAB["dialled"], 21), random.getrandbits(32), 0, SYN))


def slow_greeting():
    """Ten seconds are for a SYN that nobody answers: a server that takes longer to greet is waited for."""
    listen("client", 5001)
    talk = Talk("client", login=False)
    time.sleep(13)
    talk.greet()
    assert works("server", talk.port(5001))


run(globals())

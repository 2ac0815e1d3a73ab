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


run(globals())

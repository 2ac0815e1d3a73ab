"""Runs a program with a listening socket, as systemd passes it (sd_listen_fds(3)): pass_socket.py NAME PORT PROGRAM ARGUMENT...

The socket is 127.0.0.1's.
"""

import os
import socket
import sys

name, port, *command = sys.argv[1:]
listener = socket.create_server(("127.0.0.1", int(port)))
if listener.fileno() != 3:
    os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES=name)
os.execv(command[0], command)

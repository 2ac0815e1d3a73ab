"""Stops one thread of a process, and no other, until it is ended itself: thread_stopper.py PID NAME.

It says `stopped` when it is done (ptrace(2), PTRACE_SEIZE and PTRACE_INTERRUPT).
"""

import ctypes
import os
import signal
import sys

PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
pid, name = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request, thread):
    if libc.ptrace(request, thread, None, None) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


for thread in os.listdir(f"/proc/{pid}/task"):
    with open(f"/proc/{pid}/task/{thread}/comm") as comm:
        if comm.read().strip() == name:
            ptrace(PTRACE_SEIZE, int(thread))
            ptrace(PTRACE_INTERRUPT, int(thread))
            os.waitpid(int(thread), WALL)
            print("stopped", flush=True)
signal.pause()

"""As much of a service manager as a daemon's file descriptors need (sd_notify(3), sd_listen_fds(3)):
service_manager.py NOTIFY_SOCKET LOG PROGRAM ARGUMENT...

Each line on standard input is an order, and each is answered by a line.

  start  starts the program with what it has given to be kept, and waits until it is ready
  kill   sends it SIGKILL
  stop   sends it SIGTERM, and waits for its end

The answers name what is kept.
"""

import os
import socket
import subprocess
import sys
import threading
import time

path, log, *command = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(path)
kept = []  # file descriptors and their names
MOST = 4  # FileDescriptorStoreMax= of the unit; what is more is closed
ready = threading.Event()


def listen():
    while True:
        text, fds, _, _ = socket.recv_fds(listener, 4096, 8)
        said = dict(line.split("=", 1) for line in text.decode().splitlines() if "=" in line)
        name = said.get("FDNAME", "stored")
        if "FDSTOREREMOVE" in said:
            for entry in [entry for entry in kept if entry[1] == name]:
                kept.remove(entry)
                os.close(entry[0])
        elif "FDSTORE" in said and len(kept) < MOST:
            kept.append((fds[0], name))
        else:
            for fd in fds:
                os.close(fd)
        if "READY" in said:
            ready.set()


def start():
    # Those that are kept now: the program gives more as soon as it runs.
    passed = [os.dup2(fd, 100 + n) for n, (fd, _) in enumerate(kept)]
    moves = [f"exec {to}<&{fd} {fd}<&-" for to, fd in enumerate(passed, 3)]
    names = ":".join(name for _, name in kept)
    script = "; ".join([*moves, f'LISTEN_PID=$$ LISTEN_FDS={len(passed)} LISTEN_FDNAMES={names} exec "$@"'])
    ready.clear()
    with open(log, "a") as output:
        program = subprocess.Popen(
            ["bash", "-c", script, "bash", *command],
            env={**os.environ, "NOTIFY_SOCKET": path},
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    for fd in passed:
        os.close(fd)
    if not ready.wait(20):
        raise TimeoutError(f"not ready, {program.poll()}")
    return program


program = None
threading.Thread(target=listen, daemon=True).start()
for order in sys.stdin:
    try:
        if order == "start\n":
            program = start()
        else:
            program.kill() if order == "kill\n" else program.terminate()
            program.wait(20)
        time.sleep(0.1)  # what it has said last is heard
        print("ok", *sorted(name for _, name in kept), flush=True)
    except (OSError, subprocess.SubprocessError, ValueError) as fault:
        print("failed", repr(fault), flush=True)
program.kill()

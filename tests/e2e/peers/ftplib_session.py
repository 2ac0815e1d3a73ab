"""A session of Python's ftplib: ftplib_session.py HOST PORT MODE[,MODE...] {get|put REMOTE LOCAL}...

Each transfer is made in the next of the modes.
"""

import ftplib
import itertools
import socket
import sys

host, port, modes, *steps = sys.argv[1:]


class Session(ftplib.FTP):
    """ftplib, told to use EPRT and EPSV over IPv4 too."""

    mode = None

    def makepasv(self):
        if self.mode == "EPSV":
            return ftplib.parse229(self.sendcmd("EPSV"), self.sock.getpeername())
        return super().makepasv()

    def makeport(self):
        if self.mode == "EPRT" and self.af == socket.AF_INET:
            listener = socket.create_server(("", 0), backlog=1)
            listener.settimeout(self.timeout)
            self.voidcmd(f"EPRT |1|{self.sock.getsockname()[0]}|{listener.getsockname()[1]}|")
            return listener
        return super().makeport()


ftp = Session()
ftp.set_debuglevel(1)
ftp.connect(host, int(port), timeout=60)
ftp.trust_server_pasv_ipv4_address = True
ftp.login()
for mode in itertools.cycle(modes.split(",")):
    if not steps:
        break
    ftp.mode = mode
    ftp.set_pasv(mode in ("PASV", "EPSV"))
    (verb, remote, local), steps = steps[:3], steps[3:]
    if verb == "get":
        with open(local, "wb") as file:
            ftp.retrbinary("RETR " + remote, file.write)
    else:
        with open(local, "rb") as file:
            ftp.storbinary("STOR " + remote, file)
ftp.quit()

"""An FTP server that sends its replies as no real one does: handmade_server.py ADDRESS PORT ROOT STYLE.

STYLE is one of
  cut      each reply in two segments, the next one with its code cut a byte later
  bytes    each byte by itself
  bare     227 without parentheses
  equals   227 as some old servers write it: 227 =10,0,0,2,4,0
  lines    a 227 of several lines (RFC 959, 4.2)
  slow     half a second goes by before PORT, EPRT, PASV and EPSV are answered
  logout   every session's first two PASV are answered with `227 Logout.`
with `-nodelay` behind it where Nagle's algorithm is to be off. Logs `CLIENT COMMAND` for every command.

It takes a PORT only for the client's own address and data connections only from there.
"""

import os
import socket
import sys
import threading
import time

address, port, root, style = sys.argv[1:]
style, _, option = style.partition("-")
PAUSE = 0.005 if style == "cut" else 0.001  # seconds between two pieces of a reply


class Session(threading.Thread):
    """One control connection."""

    cuts = {}  # where the last reply of each code was cut, over all sessions

    def __init__(self, control, client):
        super().__init__(daemon=True)
        self.control, self.client = control, client
        self.input = control.makefile("rb")
        self.refusals = 2 if style == "logout" else 0
        self.directory = "/"
        self.data = None  # gives the data connection when called

    def reply(self, text):
        text = (text + "\r\n").encode()
        if style == "cut":
            cut = self.cuts[text[:3]] = self.cuts.get(text[:3], 0) % (len(text) - 1) + 1
            pieces = [text[:cut], text[cut:]]
        elif style == "bytes":
            pieces = [text[i : i + 1] for i in range(len(text))]
        else:
            pieces = [text]
        for number, piece in enumerate(pieces):
            if number:
                time.sleep(PAUSE)
            self.control.sendall(piece)

    def run(self):
        self.reply("220 made by hand")
        for line in self.input:
            line = line.decode().strip()
            print(self.client, line, flush=True)
            verb, _, argument = line.partition(" ")
            self.answer(verb.upper(), argument)
            if verb.upper() == "QUIT":
                break
        self.control.close()

    def answer(self, verb, argument):
        if style == "slow" and verb in ("PORT", "EPRT", "PASV", "EPSV"):
            time.sleep(0.5)
        if verb == "USER":
            self.reply("331 any password")
        elif verb == "PASS":
            self.reply("230 welcome")
        elif verb == "FEAT":
            self.reply("211-Features:\r\n EPRT\r\n EPSV\r\n211 End")
        elif verb == "PWD":
            self.reply(f'257 "{self.directory}" is here')
        elif verb == "CWD":
            self.directory = os.path.join(self.directory, argument)
            self.reply("250 there")
        elif verb in ("TYPE", "NOOP"):
            self.reply("200 fine")
        elif verb == "PORT":
            numbers = argument.split(",")
            self.active(".".join(numbers[:4]), int(numbers[4]) * 256 + int(numbers[5]))
        elif verb == "EPRT":
            fields = argument.split(argument[0])
            self.active(fields[2], int(fields[3]))
        elif verb in ("PASV", "EPSV"):
            self.passive(verb)
        elif verb in ("RETR", "STOR"):
            self.transfer(verb, root + os.path.join(self.directory, argument))
        elif verb == "QUIT":
            self.reply("221 bye")
        else:
            self.reply("502 not here")

    def active(self, host, number):
        if host != self.client:
            return self.reply("500 that is not you")
        source = self.control.getsockname()[0]
        self.data = lambda: socket.create_connection((host, number), timeout=60, source_address=(source, 0))
        return self.reply("200 fine")

    def passive(self, verb):
        if self.refusals:
            self.refusals -= 1
            return self.reply("227 Logout.")
        own = self.control.getsockname()[0]
        listener = socket.create_server((own, 0), family=self.control.family)
        listener.settimeout(60)
        number = listener.getsockname()[1]

        def accept():
            data, peer = listener.accept()
            listener.close()
            assert peer[0] == self.client, peer
            return data

        self.data = accept
        if verb == "EPSV":
            return self.reply(f"229 Extended passive mode (|||{number}|)")
        offer = ",".join(own.split(".") + [str(number >> 8), str(number & 255)])
        return self.reply(
            {
                "bare": f"227 Entering Passive Mode {offer}",
                "equals": f"227 ={offer}",
                "lines": f"227-Passive mode it is.\r\n 227 will follow\r\n227 Entering Passive Mode ({offer})",
            }.get(style, f"227 Entering Passive Mode ({offer}).")
        )

    def transfer(self, verb, path):
        if verb == "RETR" and not os.path.isfile(path):
            return self.reply("550 no such file")
        self.reply("150 here it comes")
        data = self.data()
        data.settimeout(60)
        if verb == "RETR":
            with open(path, "rb") as file:
                data.sendall(file.read())
        else:
            with open(path, "wb") as file:
                for chunk in iter(lambda: data.recv(65536), b""):
                    file.write(chunk)
        data.close()
        return self.reply("226 done")


family = socket.AF_INET6 if ":" in address else socket.AF_INET
listener = socket.create_server((address, int(port)), family=family)
while True:
    connection, peer = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, option == "nodelay")
    Session(connection, peer[0]).start()

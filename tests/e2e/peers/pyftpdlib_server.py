"""An anonymous FTP server: pyftpdlib_server.py ADDRESS PORT ROOT [quiet].

Logs every command to stderr, unless it is to be quiet.
"""

import logging
import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.ioloop import AsyncChat
from pyftpdlib.servers import FTPServer


def del_channel(self, map=None):
    """As in pyftpdlib, which does not look whose the number is by now: with several sessions at once it stops to listen
    to another's socket, and that session stalls."""
    if self.ioloop.socket_map.get(self._fileno) is self:
        self.ioloop.unregister(self._fileno)


AsyncChat.del_channel = del_channel

address, port, root, *quiet = sys.argv[1:]
logging.basicConfig(level=logging.ERROR if quiet else logging.DEBUG, format="%(message)s")
FTPHandler.authorizer = DummyAuthorizer()
FTPHandler.authorizer.add_anonymous(root, perm="elradfmwMT")
FTPServer.max_cons = 0
FTPServer((address, int(port)), FTPHandler, backlog=4096).serve_forever()

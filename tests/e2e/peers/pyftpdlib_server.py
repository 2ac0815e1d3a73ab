"""An anonymous FTP server: pyftpdlib_server.py ADDRESS PORT ROOT. Logs every command to stderr."""

import logging
import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer

address, port, root = sys.argv[1:]
logging.basicConfig(level=logging.DEBUG, format="%(message)s")
FTPHandler.authorizer = DummyAuthorizer()
FTPHandler.authorizer.add_anonymous(root, perm="elradfmwMT")
FTPServer((address, int(port)), FTPHandler).serve_forever()

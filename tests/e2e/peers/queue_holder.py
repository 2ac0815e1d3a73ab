"""A program that reads a netfilter queue and does nothing with it: queue_holder.py NUMBER"""

import os
import socket
import struct
import sys
import time

NETLINK_NETFILTER = 12
NFNL_SUBSYS_QUEUE, NFQNL_MSG_CONFIG = 3, 2
NLM_F_REQUEST, NLM_F_ACK = 1, 4
NFQA_CFG_CMD, NFQNL_CFG_CMD_BIND = 1, 1

queue = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
queue.bind((os.getpid(), 0))
command = struct.pack("=HHBBH", 8, NFQA_CFG_CMD, NFQNL_CFG_CMD_BIND, 0, 0)
family = struct.pack("=BB", 0, 0) + struct.pack("!H", int(sys.argv[1]))
kind = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_CONFIG
header = struct.pack("=IHHII", 16 + len(family) + len(command), kind, NLM_F_REQUEST | NLM_F_ACK, 1, 0)
queue.send(header + family + command)
(error,) = struct.unpack_from("=i", queue.recv(4096), 16)
assert error == 0, error
print("bound", flush=True)
time.sleep(600)

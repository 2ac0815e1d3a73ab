"""Changes the ruleset many times, each time in a transaction of its own: many_changes.py COUNT"""

import ctypes
import sys

nftables = ctypes.CDLL("libnftables.so.1")
nftables.nft_ctx_new.restype = ctypes.c_void_p
context = ctypes.c_void_p(nftables.nft_ctx_new(0))
for _ in range(int(sys.argv[1])):
    assert nftables.nft_run_cmd_from_buffer(context, b"add table inet other") == 0

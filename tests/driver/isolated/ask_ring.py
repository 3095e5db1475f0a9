"""What an engine's ring lets itself be asked for: `ask_ring.py DISABLED [OPERATION...]`.

DISABLED are bits of features. Writes requests for these operations, or for all, into the ring past
the engine, which cannot be used any more afterwards. Prints one JSON object: the numbers of the
operations, of the requests of io_uring_register and of the SQE flags that were not refused.
"""

import ctypes
import errno
import json
import mmap
import os
import struct
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from driver.engine_harness import Engine
from uringloop.driver._engine import ffi, lib

SETUP, ENTER, REGISTER = 425, 426, 427
GETEVENTS = 1
PARAMS_BYTES = 120
SQ_OFFSETS, CQ_OFFSETS = 40, 80  # of their structs in io_uring_params
OFFSET_OF_SQES = 0x10000000
SQE_BYTES, CQE_BYTES = 64, 16
PAGE = mmap.PAGESIZE  # both queues of a small ring fit into one
RECV = 27
MARK = 1 << 62  # no token of the engine
CQE_F_NOTIF = 1 << 3  # a second answer, to a send without a copy
OPERATIONS_END, REGISTRATIONS_END = 128, 64  # more than there are
# IOSQE_*, from CQE_SKIP_SUCCESS on down: after that the kernel knows no IO_DRAIN any more. A
# drain, refused or not, would hold up what comes behind it.
FLAGS = [64, 32, 16, 8, 4, 2, 1]
# Answers to what is refused, and to what the kernel does not know.
UNKNOWN = {errno.EINVAL, errno.EACCES}
UNKNOWN_FLAG = {errno.EOPNOTSUPP, errno.EACCES}

libc = ctypes.CDLL(None, use_errno=True)


def call(*arguments: object) -> int:
    """The result of a system call, or -errno."""
    result = libc.syscall(*arguments)
    return result if result >= 0 else -ctypes.get_errno()


class Ring:
    """The queues of a ring of this process, as the kernel sees them."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.queues = mmap.mmap(fd, PAGE)
        self.entries = mmap.mmap(fd, PAGE, offset=OFFSET_OF_SQES)
        params = ctypes.create_string_buffer(PARAMS_BYTES)  # offsets are the same in each ring
        os.close(call(SETUP, 1, params))
        _, self.sq_tail, self.sq_mask = struct.unpack_from("=3I", params, SQ_OFFSETS)
        cq = struct.unpack_from("=6I", params, CQ_OFFSETS)
        self.cq_head, self.cq_tail, self.cq_mask, self.completions = cq[0], cq[1], cq[2], cq[5]

    def word(self, offset: int) -> int:
        return struct.unpack_from("=I", self.queues, offset)[0]

    def ask(self, opcode: int, flags: int = 0) -> int:
        """The errno that an operation on no descriptor is answered by."""
        tail = self.word(self.sq_tail)
        where = (tail & self.word(self.sq_mask)) * SQE_BYTES
        self.entries[where : where + SQE_BYTES] = bytes(SQE_BYTES)
        struct.pack_into("=BBHi", self.entries, where, opcode, flags, 0, -1)
        struct.pack_into("=Q", self.entries, where + 32, MARK)
        struct.pack_into("=I", self.queues, self.sq_tail, tail + 1)
        assert call(ENTER, self.fd, 1, 1, GETEVENTS, None, 0) == 1
        return self.answer()

    def answer(self) -> int:
        found = []
        for place in range(self.word(self.cq_head), self.word(self.cq_tail)):
            where = self.completions + (place & self.word(self.cq_mask)) * CQE_BYTES
            mark, result, flags = struct.unpack_from("=QiI", self.queues, where)
            found += [-result] if mark == MARK and not flags & CQE_F_NOTIF else []
            struct.pack_into("=I", self.queues, self.cq_head, place + 1)
        assert len(found) == 1, found
        return found[0]


def rings() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[io_uring]":
                found.add(int(name))
        except FileNotFoundError:
            continue  # the descriptor that listed the directory
    return found


def main() -> None:
    result = ffi.new("struct ul_probe_result *")
    disabled, *operations = map(int, sys.argv[1:])
    lib.ul_probe(disabled, result)
    engine = Engine(features=result.features, sq_entries=8, cq_entries=16)
    engine.turn()
    (fd,) = rings()
    ring = Ring(fd)
    bad_address = ctypes.c_void_p(1)
    answer = {
        "operations": [
            n for n in operations or range(OPERATIONS_END) if ring.ask(n) not in UNKNOWN
        ],
        "registrations": [
            n
            for n in range(REGISTRATIONS_END)
            if -call(REGISTER, fd, n, bad_address, 1) not in UNKNOWN
        ],
        "flags": [flag for flag in FLAGS if ring.ask(RECV, flag) not in UNKNOWN_FLAG],
    }
    print(json.dumps(answer), flush=True)
    os._exit(0)


main()

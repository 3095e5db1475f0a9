"""The door to the C engine: the only importer of the module that build_ffi.py makes.

Names from engine.h are given on as they are. Nothing here decides anything.
"""

from __future__ import annotations

from uringloop.driver import _engine  # type: ignore[attr-defined]

ffi = _engine.ffi
lib = _engine.lib

UL_OP_ACCEPT: int = lib.UL_OP_ACCEPT
UL_OP_RECV: int = lib.UL_OP_RECV
UL_OP_SEND: int = lib.UL_OP_SEND
UL_OP_CONNECT: int = lib.UL_OP_CONNECT
UL_OP_POLL: int = lib.UL_OP_POLL
UL_OP_CANCEL: int = lib.UL_OP_CANCEL
UL_OP_RECVMSG: int = lib.UL_OP_RECVMSG
UL_OP_SENDMSG: int = lib.UL_OP_SENDMSG
UL_OP_SENDFILE: int = lib.UL_OP_SENDFILE
UL_OP_RELAY: int = lib.UL_OP_RELAY
UL_OP_OPEN: int = lib.UL_OP_OPEN
UL_OP_READ: int = lib.UL_OP_READ
UL_OP_WRITE: int = lib.UL_OP_WRITE
UL_OP_CLOSE: int = lib.UL_OP_CLOSE
UL_OP_FSYNC: int = lib.UL_OP_FSYNC
UL_OP_TRUNCATE: int = lib.UL_OP_TRUNCATE
UL_OP_STAT: int = lib.UL_OP_STAT
UL_OP_RENAME: int = lib.UL_OP_RENAME
UL_OP_LINK: int = lib.UL_OP_LINK
UL_OP_UNLINK: int = lib.UL_OP_UNLINK
UL_OP_MKDIR: int = lib.UL_OP_MKDIR
UL_OP_SYMLINK: int = lib.UL_OP_SYMLINK
UL_RELAY_RECEIVE: int = lib.UL_RELAY_RECEIVE
UL_RELAY_SEND: int = lib.UL_RELAY_SEND
UL_VECTORED: int = lib.UL_VECTORED
UL_LAZY: int = lib.UL_LAZY
UL_ONCE: int = lib.UL_ONCE
UL_FILE: int = lib.UL_FILE
UL_NAMES: int = lib.UL_NAMES
UL_SHARED: int = lib.UL_SHARED
UL_WAITS: int = lib.UL_WAITS
UL_ZERO_COPY: int = lib.UL_ZERO_COPY
UL_READABLE: int = lib.UL_READABLE
UL_NAME_BYTES: int = lib.UL_NAME_BYTES
UL_MESSAGE_HEADER: int = lib.UL_MESSAGE_HEADER
UL_MORE: int = lib.UL_MORE
UL_HELD_WINDOW_S: int = lib.UL_HELD_WINDOW_S

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
UL_VECTORED: int = lib.UL_VECTORED
UL_LAZY: int = lib.UL_LAZY
UL_MORE: int = lib.UL_MORE

"""Mounts that only this process and its children see. Call it in a child process only.

Where the caller may not mount, it becomes root in a user namespace of its own, if that is
allowed; else OSError.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)


def have_own_mounts() -> None:
    """From now on what this process mounts is seen by nobody else."""
    user, group = os.getuid(), os.getgid()
    if _libc.unshare(_CLONE_NEWNS) == 0:
        _mount("none", "/", "", _MS_REC | _MS_PRIVATE, "")
        return
    if _libc.unshare(_CLONE_NEWNS | _CLONE_NEWUSER) != 0:
        _raise("unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def cover(path: str, by: str) -> None:
    """The file `path` now reads as the file `by` does."""
    _mount(by, path, "", _MS_BIND, "")


def mount_memory(path: str, options: str) -> None:
    """A file system in memory, with tmpfs' options."""
    _mount("none", path, "tmpfs", 0, options)


def unmount(path: str) -> None:
    if _libc.umount2(path.encode(), 0):
        _raise(f"unmount {path}")


def _mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    texts = [text.encode() for text in (source, target, kind)]
    if _libc.mount(*texts, ctypes.c_ulong(flags), options.encode()):
        _raise(f"mount {target}")


def _raise(what: str) -> None:
    error = ctypes.get_errno()
    raise OSError(error, f"{os.strerror(error)} ({what})")

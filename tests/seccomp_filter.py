"""Denies system calls to this process, with an errno, as container profiles do.

A classic BPF program by hand, so that no library is needed: load the architecture, then the
number, and compare. There is no way back; call it in a child process only. System calls are
named by their numbers; since 424 these are the same on all architectures that matter here.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_MODE_FILTER = 2
_RET_ALLOW, _RET_ERRNO = 0x7FFF0000, 0x00050000
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_OFFSET_NUMBER, _OFFSET_ARCH = 0, 4  # in struct seccomp_data


class _Instruction(ctypes.Structure):  # struct sock_filter
    _fields_ = [
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("operand", ctypes.c_uint32),
    ]


class _Program(ctypes.Structure):  # struct sock_fprog
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction))]


def deny(errnos: Mapping[int, int]) -> None:
    """From now on these system calls, by number, answer these errnos, in this thread and
    those it starts. OSError where the kernel takes no filter."""
    instructions = _instructions(errnos)
    array = (_Instruction * len(instructions))(*instructions)
    program = _Program(len(instructions), array)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))


def _instructions(errnos: Mapping[int, int]) -> list[_Instruction]:
    made = [
        _Instruction(_LOAD_WORD, 0, 0, _OFFSET_ARCH),
        _Instruction(_JUMP_IF_EQUAL, 1, 0, _AUDIT_ARCH[platform.machine()]),
        _Instruction(_RETURN, 0, 0, _RET_ALLOW),
        _Instruction(_LOAD_WORD, 0, 0, _OFFSET_NUMBER),
    ]
    for number, error in errnos.items():
        made.append(_Instruction(_JUMP_IF_EQUAL, 0, 1, number))
        made.append(_Instruction(_RETURN, 0, 0, _RET_ERRNO | error))
    made.append(_Instruction(_RETURN, 0, 0, _RET_ALLOW))
    return made


def _prctl(option: int, value: int, pointer: int = 0) -> None:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    arguments = [ctypes.c_ulong(argument) for argument in (value, pointer, 0, 0)]
    if prctl(ctypes.c_int(option), *arguments):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))

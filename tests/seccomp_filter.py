"""Denies system calls to this process, with an errno, as container profiles do.

Classic BPF programs by hand, so that no library is needed: load the architecture, then the
number, and compare. There is no way back; call it in a child process, or in a thread of its
own. System calls are named by their numbers; since 424 these are the same on all
architectures that matter here, and numbers_by_name() knows the older ones.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALLOWED = 0
IO_URING_SETUP, IO_URING_ENTER, IO_URING_REGISTER = 425, 426, 427

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_MODE_FILTER = 2
_RET_ALLOW, _RET_ERRNO = 0x7FFF0000, 0x00050000
_LOAD_WORD, _JUMP_IF_EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06
_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_ARGUMENTS = 0, 4, 16  # in struct seccomp_data


@dataclass(frozen=True)
class Rule:
    """The answer to one system call.

    number     the system call's
    answer     an errno, or ALLOWED
    argument   the rule is about calls whose argument of this index, its lower 32 bits masked
               by `mask`, is `value`; None: about all
    """

    number: int
    answer: int
    argument: int | None = None
    mask: int = 0xFFFFFFFF
    value: int = 0


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
    restrict([Rule(number, error) for number, error in errnos.items()])


def restrict(rules: Sequence[Rule], otherwise: int = ALLOWED) -> None:
    """From now on the first rule that fits answers, or `otherwise`; where deny() does."""
    instructions = _instructions(rules, otherwise)
    array = (_Instruction * len(instructions))(*instructions)
    program = _Program(len(instructions), array)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))


def numbers_by_name() -> dict[str, int]:
    """The system calls of this machine, as the headers have them; the compiler reads them."""
    expanded = subprocess.run(
        ["gcc", "-E", "-dM", "-"],
        input="#include <asm/unistd.h>",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    defined = dict(re.findall(r"#define __NR(\w+) +(\w+)", expanded))
    numbers = {}
    for name, value in defined.items():
        value = defined.get(value.removeprefix("__NR"), value)
        if name.startswith("_") and value.isdigit():
            numbers[name[1:]] = int(value)
    return numbers


def _instructions(rules: Sequence[Rule], otherwise: int) -> list[_Instruction]:
    made = [
        _Instruction(_LOAD_WORD, 0, 0, _OFFSET_ARCH),
        _Instruction(_JUMP_IF_EQUAL, 1, 0, _AUDIT_ARCH[platform.machine()]),
        _returning(ALLOWED),
        _Instruction(_LOAD_WORD, 0, 0, _OFFSET_NUMBER),
    ]
    for rule in rules:
        answered = _answered(rule)
        made.append(_Instruction(_JUMP_IF_EQUAL, 0, len(answered), rule.number))
        made.extend(answered)
    return [*made, _returning(otherwise)]


def _answered(rule: Rule) -> list[_Instruction]:
    """What follows once the number fits; falls through, the number loaded, if an argument
    does not."""
    if rule.argument is None:
        return [_returning(rule.answer)]
    return [
        _Instruction(_LOAD_WORD, 0, 0, _OFFSET_ARGUMENTS + 8 * rule.argument),
        _Instruction(_AND, 0, 0, rule.mask),
        _Instruction(_JUMP_IF_EQUAL, 0, 1, rule.value),
        _returning(rule.answer),
        _Instruction(_LOAD_WORD, 0, 0, _OFFSET_NUMBER),
    ]


def _returning(answer: int) -> _Instruction:
    value = _RET_ALLOW if answer == ALLOWED else _RET_ERRNO | answer
    return _Instruction(_RETURN, 0, 0, value)


def _prctl(option: int, value: int, pointer: int = 0) -> None:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    arguments = [ctypes.c_ulong(argument) for argument in (value, pointer, 0, 0)]
    if prctl(ctypes.c_int(option), *arguments):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))

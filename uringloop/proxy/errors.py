"""What ends the proxy, in one line for a person, with an exit status for a program."""

from __future__ import annotations

import enum


class ExitStatus(enum.IntEnum):
    """What the process ends with; docs/proxy.md lists them."""

    DRAINED = 0  # asked to stop, and every connection had ended
    CUT = 1  # asked to stop, and connections were cut: a second signal, or out of time
    USAGE = 2  # click's own number for it
    LISTEN = 3
    CERTIFICATE = 4
    ENGINE = 5


class ProxyError(Exception):
    """Its text is one line, without the program's name."""

    exit_status = ExitStatus.USAGE


class AddressError(ProxyError):
    """An address that nobody can understand."""


class ListenError(ProxyError):
    """The address to listen on cannot be had: in use, not ours, not allowed."""

    exit_status = ExitStatus.LISTEN


class CertificateError(ProxyError):
    """A file of certificates or keys is missing, not to be read, or does not fit."""

    exit_status = ExitStatus.CERTIFICATE


class EngineError(ProxyError):
    """No event loop can be had here."""

    exit_status = ExitStatus.ENGINE

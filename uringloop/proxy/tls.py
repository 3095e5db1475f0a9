"""TLS on either side: contexts from files, and a connection that goes over to TLS.

A context is made once, before anything runs, so that a file that is missing, no certificate
or the wrong key ends the start with one line. A connection goes over to TLS after it is
there, and after a PROXY header, which is never encrypted.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path
from typing import Any

from uringloop.proxy.errors import CertificateError

_CERTIFICATE = re.compile(rb"-----BEGIN (TRUSTED |X509 )?CERTIFICATE-----")
_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def server_context(certificate: str, key: str | None) -> ssl.SSLContext:
    """What the proxy shows to its clients.

    certificate   a PEM file: the certificate, then those between it and the authority
    key           a PEM file; None: it is in the certificate's
    raises        CertificateError
    """
    _check_file(certificate, _CERTIFICATE, "certificate")
    _check_file(key or certificate, _KEY, "private key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_refuse_password)
    except _KeyEncryptedError:
        raise CertificateError(f"{key or certificate}: the private key is encrypted") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            reason = f"the private key in {key or certificate} does not fit"
        else:
            reason = f"certificate or key is damaged ({error.reason or error.args[-1]})"
        raise CertificateError(f"{certificate}: {reason}") from None
    return context


def upstream_context(authorities: str | None) -> ssl.SSLContext:
    """What an upstream has to show: a certificate that fits its name.

    authorities   a PEM file of the authorities to trust; None: those of the system
    raises        CertificateError
    """
    if authorities is None:
        return ssl.create_default_context()
    _check_file(authorities, _CERTIFICATE, "certificate")
    try:
        return ssl.create_default_context(cafile=authorities)
    except ssl.SSLError as error:
        reason = error.reason or error.args[-1]
        raise CertificateError(f"{authorities}: a certificate is damaged ({reason})") from None


class _KeyEncryptedError(Exception):
    """There is nobody to ask for a password."""


def _refuse_password() -> str:
    raise _KeyEncryptedError


def _check_file(path: str, content: re.Pattern[bytes], what: str) -> None:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CertificateError(f"cannot read {path}: {error.strerror}") from None
    if not content.search(data):
        raise CertificateError(f"{path} has no {what} in PEM form")


async def go_over_to_tls(
    transport: Any,
    context: ssl.SSLContext,
    *,
    server_hostname: str | None,
    timeout_s: float | None,
) -> Streams:
    """Shakes hands on a transport that is paused; from then on the streams are it.

    server_hostname   the name that the other end must prove; None: we are the server
    timeout_s         for the handshake; None is asyncio's minute
    raises            OSError, ssl.SSLError among them; the transport is closed then

    A stream pair, as bytes may arrive together with the end of the handshake, before anybody
    could have paused: the reader keeps them, and uringloop.relay() begins with them.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    encrypted = await loop.start_tls(
        transport,
        protocol,
        context,
        server_side=server_hostname is None,
        server_hostname=server_hostname,
        ssl_handshake_timeout=timeout_s,
    )
    assert encrypted is not None  # since 3.11 the stubs say that it may be: for a closed loop
    protocol.connection_made(encrypted)
    return reader, asyncio.StreamWriter(encrypted, protocol, reader, loop)

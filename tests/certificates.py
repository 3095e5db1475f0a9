"""A certificate authority for one test run, and contexts that trust it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

import trustme

HOST = "tls.test"


@dataclass(frozen=True)
class Contexts:
    server: ssl.SSLContext
    client: ssl.SSLContext
    stranger: ssl.SSLContext  # a client's that does not know the authority


def _make_contexts() -> Contexts:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Contexts(server, client, ssl.create_default_context())


_CONTEXTS = _make_contexts()  # at import: tests ask for it from several threads at once


def contexts() -> Contexts:
    return _CONTEXTS

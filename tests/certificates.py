"""A certificate authority for one test run, and contexts that trust it."""

from __future__ import annotations

import functools
import ssl
from dataclasses import dataclass

import trustme

HOST = "tls.test"


@dataclass(frozen=True)
class Contexts:
    server: ssl.SSLContext
    client: ssl.SSLContext
    stranger: ssl.SSLContext  # a client's that does not know the authority


@functools.cache
def contexts() -> Contexts:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Contexts(server, client, ssl.create_default_context())

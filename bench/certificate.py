"""A certificate for the TLS servers of a run, by an authority that nobody else knows."""

from __future__ import annotations

from pathlib import Path

from bench.errors import MissingError


def write_certificate(file: Path) -> None:
    """The key and the certificate of 127.0.0.1, in one PEM file for SSLContext.load_cert_chain.

    raises      MissingError: trustme is not installed.
    """
    try:
        import trustme
    except ImportError as error:
        raise MissingError(f"TLS needs a certificate: {error}") from error
    leaf = trustme.CA().issue_cert("127.0.0.1")
    leaf.private_key_and_cert_chain_pem.write_to_path(file)

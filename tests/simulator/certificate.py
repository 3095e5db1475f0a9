"""A certificate whose handshakes have the same size in every run.

An RSA key, for its signatures are all equally long; a fixed serial number; no session tickets,
which have a time in them. The bytes differ from run to run, and nothing is decided by bytes.
"""

from __future__ import annotations

import datetime
import functools
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

HOST = "simulated.test"
SERIAL_NUMBER = 5
VALID_FROM = datetime.datetime(2020, 1, 1)
VALID_UNTIL = datetime.datetime(2049, 1, 1)


def _make() -> tuple[bytes, bytes]:
    """The certificate and its key, as PEM."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), SERIAL_NUMBER)
    builder = builder.not_valid_before(VALID_FROM).not_valid_after(VALID_UNTIL)
    names = x509.SubjectAlternativeName([x509.DNSName(HOST)])
    builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), secret


@functools.cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and the client's."""
    certificate, key = _make()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    server.num_tickets = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "both.pem")
        path.write_bytes(key + certificate)
        server.load_cert_chain(path)
    client = ssl.create_default_context(cadata=certificate.decode())
    return server, client

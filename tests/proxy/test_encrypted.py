"""TLS with clients and with upstreams, with certificates made for the run."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from certificates import UNCLOSED_ON_3_10
from cryptography.hazmat.primitives import serialization
from peers import in_thread, recv_exactly, recv_until_eof, until_true

from tests.proxy.proxying import Running, Upstream, ends_without_a_byte, running
from uringloop.proxy import tls
from uringloop.proxy.addresses import UnixAddress
from uringloop.proxy.errors import CertificateError, ExitStatus
from uringloop.proxy.proxy_protocol import compose

ours = pytest.mark.ours
pytestmark = [pytest.mark.filterwarnings(line) for line in UNCLOSED_ON_3_10]

NAME = "proxy.test"


class Files:
    """Certificates as PEM files."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert(NAME, "127.0.0.1")
        self.certificate = str(folder / "cert.pem")
        self.key = str(folder / "key.pem")
        self.both = str(folder / "both.pem")
        self.authority = str(folder / "ca.pem")
        self.other_key = str(folder / "other.pem")
        leaf.cert_chain_pems[0].write_to_path(self.certificate)
        leaf.private_key_pem.write_to_path(self.key)
        leaf.private_key_and_cert_chain_pem.write_to_path(self.both)
        authority.cert_pem.write_to_path(self.authority)
        authority.issue_cert(NAME).private_key_pem.write_to_path(self.other_key)
        self.folder = folder

    def server(self) -> ssl.SSLContext:
        return tls.server_context(self.certificate, self.key)

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.authority)

    def file(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("certificates"))


def encrypted(context: ssl.SSLContext, sock: socket.socket, **options: Any) -> ssl.SSLSocket:
    return context.wrap_socket(sock, **options)


@contextlib.asynccontextmanager
async def tls_client(proxy: Running, files: Files) -> AsyncIterator[ssl.SSLSocket]:
    plain = await proxy.connect()
    with await in_thread(lambda: encrypted(files.client(), plain, server_hostname=NAME)) as client:
        yield client


@ours
async def test_clients_speak_tls_and_the_upstream_does_not(
    loop: AbstractEventLoop, files: Files
) -> None:
    with Upstream() as upstream:
        async with (
            running(upstream.address, server_tls=files.server()) as proxy,
            tls_client(proxy, files) as client,
        ):
            with await upstream.accept() as server:
                await in_thread(client.sendall, b"question" * 50_000)
                assert await in_thread(recv_exactly, server, 400_000) == b"question" * 50_000
                server.sendall(b"answer")
                server.close()
                assert await in_thread(recv_until_eof, client) == b"answer"
    assert proxy.events.of("connection")[0]["bytes_up"] == 400_000


@ours
async def test_bytes_that_come_with_the_end_of_the_handshake_are_first(
    loop: AbstractEventLoop, files: Files
) -> None:
    """The client's last message and its first data are in one segment."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with Upstream() as upstream:
        async with running(upstream.address, server_tls=files.server()) as proxy:
            client = await proxy.connect()
            talk = files.client().wrap_bio(incoming, outgoing, server_hostname=NAME)
            with pytest.raises(ssl.SSLWantReadError):
                talk.do_handshake()
            client.sendall(outgoing.read())
            while True:
                incoming.write(await in_thread(client.recv, 65536))
                try:
                    talk.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    client.sendall(outgoing.read())
            talk.write(b"early bird")
            client.sendall(outgoing.read())
            with client, await upstream.accept() as server:
                assert await in_thread(recv_exactly, server, 10) == b"early bird"


@ours
async def test_a_client_that_does_not_speak_tls_is_turned_away(
    loop: AbstractEventLoop, files: Files
) -> None:
    with Upstream() as upstream:
        async with running(upstream.address, server_tls=files.server()) as proxy:
            with await proxy.connect() as client:
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                await in_thread(until_ended, client)
            line = await proxy.events.one("connection")
            assert line["end"] == "handshake_failed"
            assert line["error"] and line["upstream"] is None


def until_ended(peer: socket.socket) -> None:
    """TLS may answer with an alert first."""
    with contextlib.suppress(ConnectionResetError):
        recv_until_eof(peer)


@ours
async def test_a_handshake_that_does_not_come_is_waited_for_within_the_limit(
    loop: AbstractEventLoop, files: Files
) -> None:
    with Upstream() as upstream:
        async with running(
            upstream.address, server_tls=files.server(), handshake_timeout_s=0.1
        ) as proxy:
            with await proxy.connect() as client:
                await in_thread(until_ended, client)
            line = await proxy.events.one("connection")
            assert line["end"] == "handshake_failed"
            assert "longer than 0.1 seconds" in line["error"]


@ours
async def test_a_header_comes_before_the_handshake_also_in_one_segment(
    loop: AbstractEventLoop, files: Files
) -> None:
    """PROXY header and ClientHello together: what is behind the header is TLS already."""
    ends = ("192.0.2.1", 1), ("192.0.2.2", 2)
    with Upstream() as upstream:
        async with running(
            upstream.address, server_tls=files.server(), accepts_header=True, header_version=2
        ) as proxy:
            plain = await proxy.connect()
            inner, outer = socket.socketpair()
            with inner, outer, plain:
                pumping = in_thread(_pump_with_prefix, outer, plain, compose(1, *ends))
                client = await in_thread(
                    lambda: encrypted(files.client(), inner, server_hostname=NAME)
                )
                with client, await upstream.accept() as server:
                    await in_thread(client.sendall, b"hello")
                    expected = compose(2, *ends) + b"hello"
                    assert await in_thread(recv_exactly, server, len(expected)) == expected
                await pumping


def _pump_with_prefix(inner: socket.socket, outer: socket.socket, prefix: bytes) -> None:
    """Carries bytes between the two until either ends; the first piece gets the prefix."""
    outer.sendall(prefix + inner.recv(65536))
    with selectors.DefaultSelector() as selector:
        selector.register(inner, selectors.EVENT_READ, outer)
        selector.register(outer, selectors.EVENT_READ, inner)
        while True:
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                try:
                    data = key.fileobj.recv(65536)
                    if not data:
                        return
                    key.data.sendall(data)
                except OSError:
                    return  # the other end is gone: so are we


@contextlib.asynccontextmanager
async def tls_upstream(upstream: Upstream, context: ssl.SSLContext) -> AsyncIterator[Any]:
    """The upstream's end, once it has shaken hands."""
    plain = await upstream.accept()
    with await in_thread(lambda: encrypted(context, plain, server_side=True)) as server:
        yield server


@ours
@pytest.mark.parametrize("name", [None, NAME])
async def test_upstreams_speak_tls_and_prove_who_they_are(
    loop: AbstractEventLoop, files: Files, name: str | None
) -> None:
    context = tls.upstream_context(files.authority)
    with Upstream() as upstream:
        async with running(upstream.address, upstream_tls=context, upstream_name=name) as proxy:
            with await proxy.connect() as client:
                async with tls_upstream(upstream, files.server()) as server:
                    await in_thread(client.sendall, b"question")
                    assert await in_thread(recv_exactly, server, 8) == b"question"
                    await in_thread(server.sendall, b"answer")
                    assert await in_thread(recv_exactly, client, 6) == b"answer"


@ours
async def test_a_unix_upstream_proves_the_name_that_is_given(
    loop: AbstractEventLoop, files: Files, tmp_path: Path
) -> None:
    context = tls.upstream_context(files.authority)
    with Upstream(path=str(tmp_path / "upstream")) as upstream:
        assert isinstance(upstream.address, UnixAddress)
        async with running(upstream.address, upstream_tls=context, upstream_name=NAME) as proxy:
            with await proxy.connect() as client:
                async with tls_upstream(upstream, files.server()) as server:
                    await in_thread(client.sendall, b"question")
                    assert await in_thread(recv_exactly, server, 8) == b"question"


@ours
@pytest.mark.parametrize(
    ("authority", "name", "reason"),
    [
        (True, "other.test", "not valid for 'other.test'"),
        (False, NAME, "unable to get local issuer|self.signed"),
    ],
)
async def test_an_upstream_that_proves_nothing_is_refused_and_backs_off(
    loop: AbstractEventLoop, files: Files, authority: bool, name: str, reason: str
) -> None:
    context = tls.upstream_context(files.authority if authority else None)
    with Upstream() as upstream:
        async with running(upstream.address, upstream_tls=context, upstream_name=name) as proxy:
            with await proxy.connect() as client:
                plain = await upstream.accept()
                with plain, pytest.raises((ssl.SSLError, OSError)):
                    await in_thread(
                        lambda: encrypted(files.server(), plain, server_side=True).recv(1)
                    )
                assert await in_thread(ends_without_a_byte, client)
            failed = await proxy.events.one("upstream_failed")
            with pytest.raises(AssertionError, match=reason):
                raise AssertionError(failed["error"])
            assert (await proxy.events.one("connection"))["end"] == "no_upstream"


@ours
async def test_the_header_to_an_upstream_is_not_encrypted(
    loop: AbstractEventLoop, files: Files
) -> None:
    context = tls.upstream_context(files.authority)
    with Upstream() as upstream:
        async with running(
            upstream.address, upstream_tls=context, upstream_name=NAME, header_version=1
        ) as proxy:
            with await proxy.connect() as client:
                expected = compose(1, client.getsockname(), client.getpeername())
                plain = await upstream.accept()
                assert await in_thread(recv_exactly, plain, len(expected)) == expected
                server = await in_thread(lambda: encrypted(files.server(), plain, server_side=True))
                with server:
                    await in_thread(client.sendall, b"question")
                    assert await in_thread(recv_exactly, server, 8) == b"question"


@ours
async def test_tls_on_both_sides(loop: AbstractEventLoop, files: Files) -> None:
    context = tls.upstream_context(files.authority)
    with Upstream() as upstream:
        async with (
            running(upstream.address, server_tls=files.server(), upstream_tls=context) as proxy,
            tls_client(proxy, files) as client,
            tls_upstream(upstream, files.server()) as server,
        ):
            await in_thread(client.sendall, b"x" * 300_000)
            assert await in_thread(recv_exactly, server, 300_000) == b"x" * 300_000
            await in_thread(server.sendall, b"answer")
            assert await in_thread(recv_exactly, client, 6) == b"answer"


@ours
@pytest.mark.parametrize("side", ["client", "upstream"])
async def test_cutting_does_not_wait_for_a_handshake(
    loop: AbstractEventLoop, files: Files, side: str
) -> None:
    """The other end is connected, and says nothing."""
    options: dict[str, Any] = (
        {"server_tls": files.server()}
        if side == "client"
        else {"upstream_tls": tls.upstream_context(files.authority)}
    )
    with Upstream() as upstream:
        async with running(upstream.address, **options) as proxy:
            with contextlib.ExitStack() as stack:
                peers = [stack.enter_context(await proxy.connect())]
                if side == "upstream":
                    peers.append(stack.enter_context(await upstream.accept()))
                    assert await in_thread(peers[1].recv, 1) == b"\x16"  # a ClientHello begins
                await until_true(lambda: proxy.proxy.open == 1)
                await proxy.proxy.cut()
                for peer in peers:
                    await in_thread(until_ended, peer)
            assert (await proxy.events.one("connection"))["end"] == "cut"


# -- files ----------------------------------------------------------------------------


def refusal(function: Any, *arguments: Any) -> str:
    with pytest.raises(CertificateError) as raised:
        function(*arguments)
    assert raised.value.exit_status is ExitStatus.CERTIFICATE
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_certificate_and_key_may_be_in_one_file(files: Files) -> None:
    tls.server_context(files.both, None)


def test_a_file_that_cannot_be_read_is_named(files: Files) -> None:
    missing = str(files.folder / "missing")
    for text in (
        refusal(tls.server_context, missing, None),
        refusal(tls.server_context, files.certificate, missing),
        refusal(tls.upstream_context, missing),
    ):
        assert text == f"cannot read {missing}: No such file or directory"
    assert "Is a directory" in refusal(tls.upstream_context, str(files.folder))


def test_a_key_that_does_not_fit_is_named(files: Files) -> None:
    text = refusal(tls.server_context, files.certificate, files.other_key)
    assert text == f"{files.certificate}: the private key in {files.other_key} does not fit"


def test_a_file_with_something_else_is_named(files: Files) -> None:
    assert refusal(tls.server_context, files.key, files.key).endswith("no certificate in PEM form")
    text = refusal(tls.server_context, files.certificate, None)
    assert text == f"{files.certificate} has no private key in PEM form"
    assert "no certificate" in refusal(tls.upstream_context, files.key)


def test_damaged_files_are_named(files: Files) -> None:
    damaged = files.file(
        "damaged", b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"
    )
    assert damaged in refusal(tls.server_context, damaged, files.key)
    assert damaged in refusal(tls.upstream_context, damaged)


def test_an_encrypted_key_is_refused_instead_of_asking_on_the_terminal(files: Files) -> None:
    key = serialization.load_pem_private_key(Path(files.key).read_bytes(), None)
    locked = files.file(
        "locked",
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        ),
    )
    text = refusal(tls.server_context, files.certificate, locked)
    assert text == f"{locked}: the private key is encrypted"

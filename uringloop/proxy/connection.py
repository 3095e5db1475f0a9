"""One client's life: what it says first, an upstream for it, the relay, its line in the log.

The relay moves the bytes and owns both sides from its start to its end. Everything before is
here: it takes little, and each step has a limit. Until the relay begins neither side is read
(but for a PROXY header): what arrives stays with its transport.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Callable
from typing import Any

from uringloop.proxy.addresses import Address, TcpAddress, UnixAddress
from uringloop.proxy.configuration import Configuration
from uringloop.proxy.log import LOGGER, error_text, event
from uringloop.proxy.proxy_protocol import Header, HeaderError, HeaderReader, Name, compose
from uringloop.proxy.tls import go_over_to_tls
from uringloop.proxy.upstreams import Upstream, Upstreams
from uringloop.relay import relay
from uringloop.relay_base import Relay

# Being out of these is our own trouble: no upstream is to blame.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

# Ends that are nobody's failure; the relay's own words.
GOOD_ENDS = frozenset({"eof", "idle_timeout"})

NO_HEADER = Header()


class ClientProtocol(asyncio.Protocol):
    """The protocol of an accepted connection until the relay has it.

    made    called with the protocol once its transport is there, paused
    """

    __slots__ = ("_header", "_made", "_reader", "transport")

    transport: Any

    def __init__(self, made: Callable[[ClientProtocol], object]) -> None:
        self._made = made
        self._reader: HeaderReader | None = None
        self._header: asyncio.Future[Header] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.pause_reading()
        self._made(self)

    def read_header(self) -> asyncio.Future[Header]:
        """A Future for the PROXY header; the bytes behind it are given back.

        raises    HeaderError, as the Future's exception
        """
        self._reader = HeaderReader()
        self._header = asyncio.get_running_loop().create_future()
        self.transport.resume_reading()
        return self._header

    def data_received(self, data: bytes) -> None:
        assert self._reader is not None and self._header is not None, "nobody reads yet"
        try:
            header = self._reader.feed(data)
        except HeaderError as error:
            self._fail(error)
            return
        if header is None:
            return
        self.transport.pause_reading()
        if self._reader.rest:
            self.transport.unread(self._reader.rest)
        if not self._header.done():
            self._header.set_result(header)

    def eof_received(self) -> None:
        self._fail(HeaderError("ended before the header was whole"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(HeaderError(error_text(exc) or "closed before the header was whole"))

    def _fail(self, error: HeaderError) -> None:
        self.transport.pause_reading()
        if self._header is not None and not self._header.done():
            self._header.set_exception(error)


class UpstreamProtocol(asyncio.Protocol):
    """The protocol of the other connection until the relay has it."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()


class RefusedError(Exception):
    """The client gets no relay. `end` says why in a word, the cause in a few."""

    def __init__(self, end: str, cause: BaseException | None) -> None:
        super().__init__(end)
        self.end = end
        self.cause = cause


class Connection:
    """What is known of one client."""

    # There are many, most of them idle.
    __slots__ = (
        "_begun",
        "_client",
        "_configuration",
        "_connected",
        "_error",
        "_failed_side",
        "_header",
        "_peer",
        "_protocol",
        "_relay",
        "_upstream",
        "_upstreams",
        "end",
    )

    def __init__(
        self, configuration: Configuration, upstreams: Upstreams, protocol: ClientProtocol
    ) -> None:
        self._configuration = configuration
        self._upstreams = upstreams
        self._protocol = protocol
        self._client: Any = protocol.transport  # a stream pair once it speaks TLS
        self._peer: Name = protocol.transport.get_extra_info("peername")
        self._header = NO_HEADER
        self._upstream: Upstream | None = None
        self._relay: Relay | None = None
        self._begun = time.monotonic()
        self._connected = self._begun
        self.end = "cut"
        self._error: BaseException | None = None
        self._failed_side: str | None = None

    @property
    def bytes_up(self) -> int:
        """From the client to the upstream, so far."""
        return 0 if self._relay is None else self._relay.bytes_a_to_b

    @property
    def bytes_down(self) -> int:
        return 0 if self._relay is None else self._relay.bytes_b_to_a

    async def serve(self) -> None:
        """All of it, but for finish(). Cancelling cuts both sides."""
        try:
            await self._hear_client()
            await self._relay_to(await self._reach_upstream())
        except RefusedError as refusal:
            self.end, self._error = refusal.end, refusal.cause

    def finish(self) -> None:
        """serve() is over, or was cancelled before it had begun: nothing is left open."""
        if self._relay is None:
            _abort(self._client)
        if self._upstream is not None:
            self._upstream.ended()
        self._tell()

    # -- the client -----------------------------------------------------------------

    async def _hear_client(self) -> None:
        """PROXY header first, then TLS: the header is never encrypted."""
        configuration = self._configuration
        if configuration.accepts_header:
            self._header = await self._read_header(configuration.handshake_timeout_s)
        if configuration.server_tls is not None:
            try:
                self._client = await go_over_to_tls(
                    self._client,
                    configuration.server_tls,
                    server_hostname=None,
                    timeout_s=configuration.handshake_timeout_s,
                )
            except OSError as error:
                raise RefusedError("handshake_failed", error) from None

    async def _read_header(self, timeout_s: float) -> Header:
        try:
            return await asyncio.wait_for(self._protocol.read_header(), timeout_s)
        except asyncio.TimeoutError:
            raise RefusedError("header_timeout", None) from None
        except HeaderError as error:
            raise RefusedError("bad_header", error) from None

    # -- the upstream ---------------------------------------------------------------

    async def _reach_upstream(self) -> Any:
        """A stream to an upstream; those that cannot be reached are passed over."""
        refused: list[Upstream] = []
        error: BaseException | None = None
        while (upstream := self._upstreams.choose(refused)) is not None:
            try:
                stream = await asyncio.wait_for(
                    self._connect(upstream.address), self._configuration.connect_timeout_s
                )
            except (OSError, asyncio.TimeoutError) as failure:
                error = failure
                self._could_not_reach(upstream, error)
                refused.append(upstream)
            except BaseException:
                upstream.given_up()
                raise
            else:
                self._reached(upstream)
                return stream
        raise RefusedError("no_upstream", error)

    def _could_not_reach(self, upstream: Upstream, error: BaseException) -> None:
        if isinstance(error, OSError) and error.errno in _EXHAUSTED:
            upstream.given_up()
            raise RefusedError("exhausted", error) from None
        delay_s = upstream.failed(self._upstreams.clock())
        event(
            logging.WARNING,
            "upstream_failed",
            upstream=upstream.address,
            error=_failure_text(error),
            back_off_s=round(delay_s, 3),
        )

    def _reached(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._connected = time.monotonic()
        if upstream.connected():
            event(logging.INFO, "upstream_recovered", upstream=upstream.address)

    async def _connect(self, address: Address) -> Any:
        transport = await _open(address)
        try:
            version = self._configuration.header_version
            if version is not None:
                transport.write(compose(version, *self._ends()))
            context = self._configuration.upstream_tls
            if context is None:
                return transport
            name = self._configuration.upstream_name
            if name is None:
                assert isinstance(address, TcpAddress), "a Unix upstream needs upstream_name"
                name = address.host
            return await go_over_to_tls(transport, context, server_hostname=name, timeout_s=None)
        except BaseException:
            transport.abort()
            raise

    def _ends(self) -> tuple[Name, Name]:
        """Who connected to what: as the header says, else as the socket does."""
        if self._header.source is not None:
            return self._header.source, self._header.destination
        return self._peer, self._protocol.transport.get_extra_info("sockname")

    # -- the relay and the end --------------------------------------------------------

    async def _relay_to(self, stream: Any) -> None:
        timeout_s = self._configuration.idle_timeout_s
        try:
            self._relay = relay(self._client, stream, idle_timeout=timeout_s)
        except BaseException:
            _abort(stream)
            raise
        result = await self._relay
        self.end = result.reason.value
        self._error = result.error
        if result.failed_side is not None:
            self._failed_side = {"a": "client", "b": "upstream"}[result.failed_side]

    def _tell(self) -> None:
        """The access line."""
        if not LOGGER.isEnabledFor(logging.INFO):
            return
        upstream = self._upstream
        has_header = self._header.source is not None
        event(
            logging.INFO,
            "connection",
            client=shown(self._header.source if has_header else self._peer),
            via=shown(self._peer) if has_header else None,
            upstream=None if upstream is None else upstream.address,
            bytes_up=self.bytes_up,
            bytes_down=self.bytes_down,
            connect_s=None if upstream is None else round(self._connected - self._begun, 6),
            duration_s=round(time.monotonic() - self._begun, 6),
            end=self.end,
            side=self._failed_side,
            error=None if self._error is None else _failure_text(self._error),
        )


def _abort(side: Any) -> None:
    """A transport, or the streams over one."""
    (side[1].transport if isinstance(side, tuple) else side).abort()


async def _open(address: Address) -> Any:
    loop = asyncio.get_running_loop()
    if isinstance(address, UnixAddress):
        transport, _ = await loop.create_unix_connection(UpstreamProtocol, address.path)
    else:
        transport, _ = await loop.create_connection(UpstreamProtocol, address.host, address.port)
    return transport


def _failure_text(error: BaseException) -> str | None:
    if isinstance(error, asyncio.TimeoutError) and not str(error):
        return "timed out"
    return error_text(error)


def shown(name: Name) -> str:
    """A socket's name as an address is written."""
    if isinstance(name, tuple):
        return str(TcpAddress(name[0], name[1]))
    return "unknown" if name is None else str(UnixAddress(name))

"""Calls of grpc.aio on a loop of the kind that the first argument names; no test itself."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc

from tests.loops import run

SERVICE = "Echo"
BULK = bytes(range(256)) * 4000


async def unary(request: bytes, context: Any) -> bytes:
    if request == b"fail":
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "asked to")
    return request


async def stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request
        yield request[::-1]


async def wait(request: bytes, context: Any) -> bytes:
    await asyncio.Event().wait()
    return b"never"


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Stream": grpc.stream_stream_rpc_method_handler(stream),
    "Wait": grpc.unary_unary_rpc_method_handler(wait),
}


async def unary_calls(channel: grpc.aio.Channel) -> None:
    call = channel.unary_unary(f"/{SERVICE}/Unary")
    bodies = [b"%d" % number * 50 for number in range(300)]
    assert list(await asyncio.gather(*map(call, bodies))) == bodies
    assert await call(BULK) == BULK


async def streams(channel: grpc.aio.Channel) -> None:
    async def requests() -> AsyncIterator[bytes]:
        for number in range(200):
            yield b"%04d" % number

    call = channel.stream_stream(f"/{SERVICE}/Stream")(requests())
    expected = [piece for n in range(200) for piece in (b"%04d" % n, (b"%04d" % n)[::-1])]
    assert [piece async for piece in call] == expected


async def errors(channel: grpc.aio.Channel) -> None:
    try:
        await channel.unary_unary(f"/{SERVICE}/Unary")(b"fail")
    except grpc.aio.AioRpcError as error:
        assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "asked to")
    else:
        raise AssertionError("no error came")


async def cancelled(channel: grpc.aio.Channel) -> None:
    call = channel.unary_unary(f"/{SERVICE}/Wait")
    try:
        await call(b"", timeout=0.05)
    except grpc.aio.AioRpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    waiting = asyncio.ensure_future(call(b""))
    await channel.unary_unary(f"/{SERVICE}/Unary")(b"meanwhile")
    waiting.cancel()
    assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], BaseException)


async def main() -> None:
    server = grpc.aio.server()
    server.add_registered_method_handlers(SERVICE, HANDLERS)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    checks = (unary_calls, streams, errors, cancelled)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for check in checks:
            await asyncio.wait_for(check(channel), 20)
    await server.stop(None)
    print("unary", *(check.__name__ for check in checks[1:]))


if __name__ == "__main__":
    run(sys.argv[1], main)

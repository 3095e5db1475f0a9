"""Connections of all kinds on one loop: small messages, bulk with checksums, half-close,
pauses, many at once. Run as a program, on the loop that the environment asks for; or
imported by programs that prepare the process first."""

import asyncio
import sys
import zlib

import uringloop

BULK_BYTES = 8_000_000
MANY = 50


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def ping_pong(address: tuple[str, int], rounds: int) -> None:
    reader, writer = await asyncio.open_connection(*address)
    for number in range(rounds):
        message = b"%08d" % number * (1 + number % 300)
        writer.write(message)
        assert await reader.readexactly(len(message)) == message
    writer.close()
    await writer.wait_closed()


async def bulk(address: tuple[str, int]) -> None:
    payload = b"".join(zlib.crc32(b"%d" % n).to_bytes(4, "big") for n in range(1000)) * 2000
    payload = payload[:BULK_BYTES]
    reader, writer = await asyncio.open_connection(*address)
    receiving = asyncio.ensure_future(reader.read(-1))
    for start in range(0, len(payload), 77_777):
        writer.write(payload[start : start + 77_777])
        await writer.drain()
    writer.write_eof()
    assert zlib.crc32(await receiving) == zlib.crc32(payload)
    writer.close()
    await writer.wait_closed()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    await ping_pong(address, 300)
    await bulk(address)
    await asyncio.gather(*(ping_pong(address, 20) for _ in range(MANY)))
    await asyncio.gather(*(bulk(address) for _ in range(2)))
    server.close()
    await server.wait_closed()
    print("echo and bulk passed")


def run() -> None:
    uringloop.run(asyncio.wait_for(main(), 40))


if __name__ == "__main__":
    loop = uringloop.new_event_loop()
    print(loop.backend)
    loop.close()
    run()
    sys.stdout.flush()

"""Bytes through the proxy in a container: there, back, and its end on SIGTERM.

    scripts/container_proxy.py podman run --rm --network host IMAGE

The arguments are the command that the proxy's own are put behind. The upstream is an echo in this
process. Prints one line; the status is not 0 when a byte is missing or the proxy ends badly. For
container.sh.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading

MESSAGE = os.urandom(1 << 20) * 8
LIMIT_S = 60


def echo(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        while piece := connection.recv(1 << 16):
            connection.sendall(piece)


def address_of(proxy: subprocess.Popen[str]) -> tuple[str, int]:
    """Where it listens, as its log says."""
    assert proxy.stderr
    for line in proxy.stderr:
        if found := re.search(r"event=listening address=(\S+):(\d+)", line):
            return found[1], int(found[2])
        print(line, end="", file=sys.stderr)
    sys.exit(f"the proxy ended before it listened: status {proxy.wait(LIMIT_S)}")


def there_and_back(address: tuple[str, int]) -> bytes:
    with socket.create_connection(address, LIMIT_S) as connection:
        sender = threading.Thread(target=send_all, args=(connection,))
        sender.start()
        pieces = list(iter(lambda: connection.recv(1 << 16), b""))
        sender.join()
    return b"".join(pieces)


def send_all(connection: socket.socket) -> None:
    connection.sendall(MESSAGE)
    connection.shutdown(socket.SHUT_WR)


def main(command: list[str]) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(LIMIT_S)
    threading.Thread(target=echo, args=(listener,), daemon=True).start()
    upstream = f"127.0.0.1:{listener.getsockname()[1]}"
    words = [*command, "proxy", "127.0.0.1:0", upstream]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as proxy:
        is_whole = there_and_back(address_of(proxy)) == MESSAGE
        proxy.terminate()
        _, rest = proxy.communicate(timeout=LIMIT_S)
    if not is_whole or proxy.returncode:
        sys.exit(f"bytes whole: {is_whole}; status {proxy.returncode}\n{rest}")
    print(f"{len(MESSAGE)} bytes there and back; ended by SIGTERM with status 0")


if __name__ == "__main__":
    main(sys.argv[1:])

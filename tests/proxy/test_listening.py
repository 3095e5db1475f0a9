"""The listening sockets: one for each worker, one port for all interfaces, files that go."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from uringloop.proxy.addresses import TcpAddress, UnixAddress
from uringloop.proxy.errors import ExitStatus, ListenError
from uringloop.proxy.listening import Listeners, listen


def closing(listeners: Listeners) -> Listeners:
    listeners.close()
    return listeners


def refusal(address: TcpAddress | UnixAddress, workers: int = 1) -> str:
    with pytest.raises(ListenError) as raised:
        listen(address, workers)
    assert raised.value.exit_status is ExitStatus.LISTEN
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_all_interfaces_are_two_sockets_of_one_port() -> None:
    listeners = listen(TcpAddress("", 0))
    (group,) = listeners.sockets
    assert {sock.family for sock in group} == {socket.AF_INET, socket.AF_INET6}
    assert len({sock.getsockname()[1] for sock in group}) == 1
    assert [str(name) for name in listeners.names] == [
        f"0.0.0.0:{group[0].getsockname()[1]}",
        f"[::]:{group[0].getsockname()[1]}",
    ]
    listeners.close()
    assert all(sock.fileno() == -1 for sock in group)


def test_each_worker_has_a_socket_of_its_own_and_the_kernel_spreads_connections() -> None:
    listeners = listen(TcpAddress("127.0.0.1", 0), workers=2)
    first, second = (group[0] for group in listeners.sockets)
    assert first.getsockname() == second.getsockname()
    peers = [socket.create_connection(first.getsockname()) for _ in range(60)]
    counts = [len(_accept_all(sock)) for sock in (first, second)]
    assert sum(counts) == 60
    assert min(counts) > 0, "of 60 all on one side: once in 2**59 runs"
    for peer in peers:
        peer.close()
    listeners.close()


def _accept_all(sock: socket.socket) -> list[str]:
    found = []
    try:
        while True:
            connection, name = sock.accept()
            connection.close()
            found.append(str(name))
    except BlockingIOError:
        return found


def test_workers_share_the_socket_of_a_path(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listeners = listen(UnixAddress(str(path)), workers=3)
    assert len({sock.fileno() for group in listeners.sockets for sock in group}) == 1
    listeners.close()
    assert not path.exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_in_use_is_refused_in_one_line(workers: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = TcpAddress(*taken.getsockname())
        assert refusal(address, workers) == f"cannot listen on {address}: Address already in use"


@pytest.mark.parametrize("workers", [1, 2])
def test_the_port_of_a_proxy_with_workers_is_in_use_too(workers: int) -> None:
    """SO_REUSEPORT would let a second one in, and each would get half of the connections."""
    listeners = listen(TcpAddress("127.0.0.1", 0), workers=2)
    assert "already in use" in refusal(listeners.names[0], workers)  # type: ignore[arg-type]
    listeners.close()


def test_an_address_of_somebody_else_is_refused() -> None:
    # 192.0.2.0/24 is for documentation: nobody has it.
    assert "Cannot assign requested address" in refusal(TcpAddress("192.0.2.1", 0))


def test_a_name_that_does_not_exist_is_refused() -> None:
    assert refusal(TcpAddress("no-such-host.invalid", 0)).startswith(
        "cannot listen on no-such-host.invalid:0: "
    )


def test_a_path_in_use_is_refused_and_a_stale_one_taken(tmp_path: Path) -> None:
    address = UnixAddress(str(tmp_path / "socket"))
    first = listen(address)
    assert "already in use" in refusal(address)
    first.sockets[0][0].close()  # as if it had been killed: the file is left
    assert os.path.exists(address.path)
    second = listen(address)
    first.close()
    assert os.path.exists(address.path), "the file is the second's"
    second.close()
    assert not os.path.exists(address.path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    assert "cannot listen on" in refusal(UnixAddress(str(path)))
    assert path.read_text() == "precious"


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    text = refusal(UnixAddress(str(tmp_path / "missing" / "socket")))
    assert text.endswith(": No such file or directory")


def test_closing_twice_does_nothing_more(tmp_path: Path) -> None:
    address = UnixAddress(str(tmp_path / "socket"))
    listeners = closing(listen(address))
    again = listen(address)
    listeners.close()
    assert os.path.exists(address.path)
    again.close()

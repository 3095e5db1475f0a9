"""IPython and a Jupyter kernel on our loops: cells that await, and what is refused in them."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks.documented import blocks, command_lines
from tests.frameworks.programs import output_of

pytest.importorskip("IPython")

SECTION = "IPython and Jupyter"
LIMIT_S = 40

pytestmark = pytest.mark.ours


def test_a_cell_of_ipython_awaits_on_our_loop(tmp_path: Path, loop_kind: str) -> None:
    (line,) = command_lines(SECTION)
    cell = "import asyncio; await asyncio.sleep(0); print(asyncio.get_running_loop().backend)"
    printed = output_of(
        [*line, "--colors=nocolor", "-c", cell],
        tmp_path,
        URINGLOOP_BACKEND=loop_kind,
        IPYTHONDIR=str(tmp_path / "ipython"),
    )
    assert printed == f"{loop_kind}\n"


@contextlib.contextmanager
def kernel(folder: Path) -> Iterator[Any]:
    """A client of a kernel that is started as documented, over Unix sockets in the folder."""
    manager = pytest.importorskip("jupyter_client.manager")
    specs = pytest.importorskip("jupyter_client.kernelspec").KernelSpecManager
    (block,) = blocks(SECTION, "json")
    spec = json.loads(block)
    spec["argv"][0] = sys.executable
    (folder / "specs/uringloop").mkdir(parents=True)
    (folder / "specs/uringloop/kernel.json").write_text(json.dumps(spec))
    started = manager.KernelManager(
        kernel_name="uringloop",
        kernel_spec_manager=specs(kernel_dirs=[str(folder / "specs")]),
        transport="ipc",
        ip=str(folder / "k"),
    )
    started.start_kernel()
    client = started.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=LIMIT_S)
        yield client
    finally:
        client.stop_channels()
        started.shutdown_kernel()


def said(client: Any, cell: str) -> str:
    """What a cell prints, or the error that it ends with."""
    pieces: list[str] = []

    def note(message: dict[str, Any]) -> None:
        content = message["content"]
        pieces.extend(content[key] for key in ("text", "evalue") if key in content)

    client.execute_interactive(cell, output_hook=note, timeout=LIMIT_S)
    return "".join(pieces)


def test_a_jupyter_kernel_runs_cells_on_our_loop(
    tmp_path: Path, loop_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("URINGLOOP_BACKEND", loop_kind)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("HOME", str(tmp_path))
    with kernel(tmp_path) as client:
        cell = "import asyncio; await asyncio.sleep(0); print(asyncio.get_running_loop().backend)"
        assert said(client, cell) == f"{loop_kind}\n"
        echo = "r, w = await asyncio.open_connection('127.0.0.1', await serve())"
        assert said(client, SERVER + echo + "\nprint(await r.read())\nw.close()") == "b'hello'\n"
        refusal = said(client, "import uringloop; uringloop.run(asyncio.sleep(0))")
        assert "cannot be called from a running event loop" in refusal
        assert said(client, "print(await asyncio.sleep(0, 'on'))") == "on\n"


SERVER = """
async def serve():
    async def hello(reader, writer):
        writer.write(b"hello")
        writer.close()
    server = await asyncio.start_server(hello, "127.0.0.1", 0)
    return server.sockets[0].getsockname()[1]
"""

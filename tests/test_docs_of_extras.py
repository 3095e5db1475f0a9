"""The programs in the pages on metrics and transports run, and print what they are about."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"

# A word of each program's output, in the order of the page.
EXPECTED = {
    "metrics.md": ("late by", "% of the time", 'uringloop_turns_total{loop="web"}'),
    "transports.md": (
        r"hello 9\n",
        "the client has left",
        "100000 bytes arrived",
        r"[b'hello\n', b'hello\n'",
    ),
}


def programs(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.M | re.S)


@pytest.mark.parametrize(
    ("page", "number"),
    [(page, number) for page, words in EXPECTED.items() for number in range(len(words))],
)
@pytest.mark.parametrize("backend", ["io_uring", "epoll"])
def test_a_program_of_the_docs_runs(
    page: str, number: int, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("URINGLOOP_BACKEND", backend)
    program = tmp_path / "program.py"
    program.write_text(programs(page)[number])
    answer = subprocess.run(
        [sys.executable, "-W", "error", program], capture_output=True, text=True, timeout=50
    )
    assert answer.stderr == ""
    assert answer.returncode == 0
    assert EXPECTED[page][number] in answer.stdout


@pytest.mark.parametrize("page", EXPECTED)
def test_every_program_of_the_page_is_run(page: str) -> None:
    assert len(programs(page)) == len(EXPECTED[page])

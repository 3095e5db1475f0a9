"""docs/files.md: each of its programs runs as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "files.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
SAID = [
    "Hello,\nworld!\nb'Hello' 5\n",
    "",
    "b'alpha\\n'\n6\nletters/a.txt\n",
]


@pytest.mark.parametrize("backend", ["auto", "epoll"])
@pytest.mark.parametrize(("program", "said"), list(zip(PROGRAMS, SAID, strict=True)))
def test_a_program_of_the_page_runs(tmp_path: Path, program: str, said: str, backend: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "URINGLOOP_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == (said, "", 0)


def test_the_features_that_the_page_names_are_those_of_the_probe() -> None:
    from uringloop.driver.features import FEATURE_BITS

    named = set(re.findall(r"`(file\w*)`", PAGE.read_text()))
    assert {"files", "file_names", "file_truncate"} == named & set(FEATURE_BITS)

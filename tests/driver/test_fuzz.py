"""The command ring under a program that does everything wrong: see isolated/fuzzed_ring.py.

RING_FUZZ_SEED=17   other examples than the usual ones
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from extent import IS_LONG

from .conftest import operation_kinds

PROGRAM = Path(__file__).with_name("isolated") / "fuzzed_ring.py"
EXAMPLES = 250 if IS_LONG else 25
SEED = os.environ.get("RING_FUZZ_SEED", "1")
LIMIT_S = 500 if IS_LONG else 150

pytestmark = operation_kinds(
    "buffer_ring", "multishot_recv", "defer_taskrun", reason="what is checked is checked in common"
)


@pytest.mark.timeout(LIMIT_S + 10)
def test_no_command_however_wrong_ends_the_process(features: int, tmp_path: Path):
    last_steps = tmp_path / "steps"
    ended = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-X", "faulthandler", str(PROGRAM)),
            *(str(features), str(EXAMPLES), SEED, str(last_steps)),
        ],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    told = f"{ended.stderr}\nstatus {ended.returncode}; the last steps:\n{last_steps.read_text()}"
    assert (ended.returncode, ended.stdout) == (0, "ok\n"), told

"""What the build says when something is missing, and what it packs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# The build is the same whichever rendering the tests run on.
once = pytest.mark.skipif(os.environ.get("URINGLOOP_PURE") == "1", reason="built once already")
REMEDY = "apt-get install liburing-dev pkg-config gcc python3-dev"


def build_ffi(**environment: str) -> subprocess.CompletedProcess[str]:
    """Reads build_ffi.py, which looks for all it needs; builds nothing."""
    return subprocess.run(
        [sys.executable, "-c", "import build_ffi"],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("environment", "missing"),
    [
        ({"PKG_CONFIG": "no-such-pkg-config"}, "no-such-pkg-config is not installed"),
        ({"PKG_CONFIG": "false"}, "liburing 2.3 or newer is not installed"),
        ({"CC": "no-such-compiler"}, "no-such-compiler is not installed"),
        ({"CC": "false"}, "the C compiler (false) does not work"),
    ],
)
def test_what_is_missing_is_named_with_the_remedy(
    environment: dict[str, str], missing: str
) -> None:
    answer = build_ffi(**environment)
    assert answer.returncode == 1
    assert missing in answer.stderr
    assert REMEDY in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("header", ["liburing.h", "Python.h"])
def test_a_missing_header_is_named_with_the_remedy(header: str, tmp_path: Path) -> None:
    """The compiler refuses just the sources that include the header."""
    compiler = tmp_path / "cc"
    compiler.write_text(
        f'#!/bin/sh\nfor file; do case $file in *.c) grep -q "<{header}>" "$file" && exit 1;;'
        ' esac; done\nexec cc "$@"\n'
    )
    compiler.chmod(0o755)
    answer = build_ffi(CC=str(compiler))
    assert answer.returncode == 1
    assert f"the header {header} is not installed" in answer.stderr
    assert REMEDY in answer.stderr


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sdist, and a wheel made from it, as a user would get them."""
    folder = tmp_path_factory.mktemp("dist")
    sdist = "from setuptools import build_meta; build_meta.build_sdist({!r})"
    run_python(sdist.format(str(folder)), ROOT)
    source = folder / "source"
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(source, filter="data")
    wheel = "from setuptools import build_meta; build_meta.build_wheel({!r})"
    run_python(wheel.format(str(folder)), next(source.iterdir()))
    return folder


def run_python(program: str, folder: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        # What is packed is asked, not how fast it is; optimizing takes minutes.
        env={**os.environ, "URINGLOOP_PURE": "", "CFLAGS": "-O0 -g0"},
        check=True,
        capture_output=True,
        timeout=300,
    )


@once
@pytest.mark.timeout(400)
def test_a_wheel_made_from_the_sdist_has_both_renderings_and_no_sources_of_c(
    distributions: Path,
) -> None:
    with zipfile.ZipFile(next(distributions.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        (scripts,) = (name for name in names if name.endswith("entry_points.txt"))
        assert b"uringloop = uringloop.__main__:main" in wheel.read(scripts)
    for hot in ("core", "driver/rings", "transports/stream"):
        assert f"uringloop/{hot}.py" in names
        assert [name for name in names if name.startswith(f"uringloop/{hot}.cpython-")]
    assert [name for name in names if name.startswith("uringloop/driver/_engine.")]
    assert "uringloop/py.typed" in names
    assert "uringloop/proxy/command.py" in names
    assert not [name for name in names if name.startswith(("tests/", "bench/"))]


@once
@pytest.mark.timeout(400)
def test_an_installed_wheel_runs_a_program(distributions: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(next(distributions.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path)
    program = (
        "import asyncio, uringloop; uringloop.run(asyncio.sleep(0)); print(uringloop.__file__)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.stdout.startswith(str(tmp_path)), answer.stderr


@once
@pytest.mark.skipif(not shutil.which("musl-gcc"), reason="musl-gcc (musl-tools) is not installed")
def test_the_engine_compiles_against_musl(tmp_path: Path) -> None:
    """As for the wheels of musllinux. musl comes without the kernel's headers."""
    machine = subprocess.run(
        ["gcc", "-print-multiarch"], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()
    for name in ("linux", "asm-generic", f"{machine}/asm", "liburing", "liburing.h"):
        (tmp_path / Path(name).name).symlink_to(Path("/usr/include", name))
    sources = [str(path) for path in sorted(ROOT.glob("uringloop/driver/engine/*.c"))]
    flags = ["-std=gnu11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
    answer = subprocess.run(
        ["musl-gcc", *flags, "-isystem", str(tmp_path), *sources],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr

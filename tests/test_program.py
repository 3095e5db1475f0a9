"""`uringloop run`: the program finds what `python script.py` gives it, and our loops.

Python itself is the oracle: each program is also run by it, and both are to say the same.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.proxy.processes import environment, run_to_end

LIMIT_S = 40.0

Ended = subprocess.CompletedProcess[str]

# What a program can know of how it was started.
FACTS = """
from __future__ import annotations
import os, sys
here = sys.modules["__main__"]
print(sys.argv, __name__, __file__, here.__name__, here.__file__, vars(here) is globals())
print(sys.path[0], __package__, __spec__ and __spec__.name, type(__loader__).__name__)
print(sorted(globals().keys() - {"__annotations__", "__cached__"}))  # empty; not in each Python
def annotated(value: no_such_name): ...
"""
LOOPS = """
import asyncio, sys
async def main():
    return asyncio.get_running_loop()
def tell(loop):
    print(type(loop).__module__, loop.backend)
tell(asyncio.run(main()))
loop = asyncio.new_event_loop()
tell(loop.run_until_complete(main()))
loop.close()
if sys.version_info >= (3, 11):
    with asyncio.Runner() as runner:
        tell(runner.run(main()))
"""
INTERRUPTED = "import signal\nsignal.raise_signal(signal.SIGINT)\n"
INTERRUPTED_LOOP = """
import asyncio, signal
async def main():
    signal.raise_signal(signal.SIGINT)
    await asyncio.sleep(20)
asyncio.run(main())
"""


def by_python(*arguments: str, folder: Path, options: tuple[str, ...] = ()) -> Ended:
    return run_to_end([sys.executable, *options, *arguments], folder, LIMIT_S)


def by_uringloop(
    *arguments: str, folder: Path, options: tuple[str, ...] = (), **changes: str
) -> Ended:
    started = [sys.executable, *options, "-m", "uringloop", "run", *arguments]
    return run_to_end(started, folder, LIMIT_S, **changes)


def assert_same(*arguments: str, folder: Path, options: tuple[str, ...] = ()) -> Ended:
    """Both ways say the same and end the same; answers how."""
    expected = by_python(*arguments, folder=folder, options=options)
    ended = by_uringloop(*arguments, folder=folder, options=options)
    assert ended.stdout == expected.stdout
    assert ended.stderr == (
        without_runpy(expected.stderr) if arguments[0] == "-m" else expected.stderr
    )
    assert ended.returncode == expected.returncode
    return ended


def without_runpy(text: str) -> str:
    """`python -m` shows frames of its own above the module's, in 3.10 with their source."""
    return re.sub(r'  File "[^"]*runpy[^"]*", .*\n(    .*\n)*', "", text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """FACTS as a script, in a folder, in a package, in a zip file."""
    for name in ("sub", "package", "folder"):
        (tmp_path / name).mkdir()
    for name in ("script", "sub/script", "package/module", "package/__main__", "folder/__main__"):
        (tmp_path / f"{name}.py").write_text(FACTS)
    (tmp_path / "package/__init__.py").touch()
    (tmp_path / "link.py").symlink_to("sub/script.py")
    with zipfile.ZipFile(tmp_path / "zipped.pyz", "w") as file:
        file.writestr("__main__.py", FACTS)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["script.py"],
        ["script.py", "a", "--help", "-m", "--", "b c", ""],
        ["sub/script.py", "x"],
        ["./sub/../script.py"],
        ["link.py"],
        ["-m", "package.module", "--help", "x"],
        ["-m", "package", "-m"],
    ],
    ids=" ".join,
)
def test_a_program_finds_what_python_gives_it(folder: Path, arguments: list[str]) -> None:
    assert "__main__" in assert_same(*arguments, folder=folder).stdout


@pytest.mark.parametrize("name", ["script.py", "folder", "zipped.pyz"])
def test_an_absolute_path_stays_one(folder: Path, name: str) -> None:
    assert_same(str(folder / name), "--version", folder=folder / "sub")


@pytest.mark.parametrize("name", ["folder", "zipped.pyz"])
def test_a_folder_is_found_from_where_the_user_is(folder: Path, name: str) -> None:
    ended = by_uringloop(name, "x", folder=folder)
    assert ended.stderr == ""
    assert f"{folder}/{name} " in ended.stdout.splitlines()[1]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="-P came with 3.11")
def test_a_safe_path_is_left_alone(folder: Path) -> None:
    assert_same("script.py", folder=folder, options=("-P",))


def write(folder: Path, text: str) -> str:
    (folder / "written.py").write_text(text)
    return "written.py"


@pytest.mark.parametrize(
    "text",
    [
        "raise SystemExit",
        "raise SystemExit(3)",
        "import sys; sys.exit('said at the end')",
        "print(end='unfinished'); import os, sys; sys.stdout.flush(); os._exit(7)",
        "def fail():\n    raise LookupError('here')\n\n\nfail()\n",
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise KeyError from error\n",
        "1 +\n",
        "\xe4 = 1\nimport no_such_module\n",
        "import runpy\nrunpy.run_path('no such file')\n",
        "import click\nraise click.UsageError('not ours')\n",
        "import click\nraise click.Abort\n",
        "raise OSError(32, 'as a broken pipe')\n",
        "import sys\nsys.excepthook = lambda *what: print(what[0], what[2].tb_lineno)\n1 / 0\n",
        "import asyncio\n\n\nasync def main():\n    raise LookupError\n\n\nasyncio.run(main())\n",
        "import warnings\nwarnings.warn('a word')\n",
    ],
)
def test_a_program_ends_as_with_python(folder: Path, text: str) -> None:
    ended = assert_same(write(folder, text), folder=folder)
    assert "uringloop" not in ended.stderr


def test_a_module_that_fails_is_told_of_from_its_first_line(folder: Path) -> None:
    (folder / "package/module.py").write_text("def fail():\n    1 / 0\n\n\nfail()\n")
    assert "ZeroDivisionError" in assert_same("-m", "package.module", folder=folder).stderr
    (folder / "package/__init__.py").write_text("1 / 0\n")
    assert "ZeroDivisionError" in by_uringloop("-m", "package", folder=folder).stderr


@pytest.mark.parametrize("template", [INTERRUPTED, INTERRUPTED_LOOP])
def test_ctrl_c_ends_a_program_as_with_python(folder: Path, template: str) -> None:
    name = write(folder, template)
    expected, ended = by_python(name, folder=folder), by_uringloop(name, folder=folder)
    assert ended.stderr.splitlines()[:3] == expected.stderr.splitlines()[:3]
    assert ended.stderr.endswith("KeyboardInterrupt\n")
    assert ended.returncode == expected.returncode == -signal.SIGINT


def test_what_outlives_the_last_line_finds_the_program(folder: Path) -> None:
    """A thread and a function of atexit pickle what is in `__main__`."""
    text = """
import atexit, pickle, threading
class Thing: ...
def tell():
    print(type(pickle.loads(pickle.dumps(Thing()))).__module__)
def tell_later():
    threading.main_thread().join()
    tell()
atexit.register(tell)
threading.Thread(target=tell_later).start()
"""
    assert assert_same(write(folder, text), folder=folder).stdout == "__main__\n" * 2
    (folder / "package/module.py").write_text(text)
    assert assert_same("-m", "package.module", folder=folder).stdout == "__main__\n" * 2


def test_children_of_multiprocessing_find_the_program(folder: Path) -> None:
    text = """
import multiprocessing
def double(number):
    return 2 * number
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(double, [1, 2]))
"""
    assert assert_same(write(folder, text), folder=folder).stdout == "[2, 4]\n"
    (folder / "package/module.py").write_text(text)
    assert assert_same("-m", "package.module", folder=folder).stdout == "[2, 4]\n"


@pytest.mark.ours
@pytest.mark.parametrize("arguments", [["written.py"], ["-m", "written"], ["folder"]], ids=" ".join)
def test_a_program_gets_our_loops_without_a_warning(
    folder: Path, arguments: list[str], loop_kind: str
) -> None:
    write(folder, LOOPS)
    (folder / "folder/__main__.py").write_text(LOOPS)
    ended = by_uringloop(
        *arguments, folder=folder, options=("-W", "error"), URINGLOOP_BACKEND=loop_kind
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert set(ended.stdout.splitlines()) == {f"uringloop.loop {loop_kind}"}


def test_where_asyncio_has_no_policies_its_loops_are_ours_too(folder: Path) -> None:
    """As from Python 3.16 on: the names are taken away before the program is run."""
    (folder / "launch.py").write_text(
        "import asyncio, sys\n"
        "from uringloop.command_line import run\n"
        "del asyncio.set_event_loop_policy\n"
        "sys.exit(run(['run', 'written.py']))\n"
    )
    write(folder, LOOPS)
    ended = by_python("launch.py", folder=folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert {line.split()[0] for line in ended.stdout.splitlines()} == {"uringloop.loop"}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner came with 3.11")
def test_a_program_that_asks_for_another_loop_gets_it(folder: Path) -> None:
    text = """
import asyncio
async def main():
    print(type(asyncio.get_running_loop()))
with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
    runner.run(main())
"""
    ended = by_uringloop(write(folder, text), folder=folder)
    assert ended.stdout == f"{asyncio.SelectorEventLoop}\n"


@pytest.mark.parametrize("arguments", [["none.py"], ["-m", "none"], ["-m", "package.none"]])
def test_a_program_that_is_not_there_is_one_line_with_pythons_status(
    folder: Path, arguments: list[str]
) -> None:
    ended = by_uringloop(*arguments, folder=folder)
    assert ended.returncode == by_python(*arguments, folder=folder).returncode
    assert ended.stderr.startswith("uringloop: ") and ended.stderr.count("\n") == 1
    assert "none" in ended.stderr


def test_a_script_may_be_read_from_anything_that_can_be_opened(folder: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"print('piped')")
    os.close(writer)
    ended = subprocess.run(
        [sys.executable, "-m", "uringloop", "run", f"/dev/fd/{reader}"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        pass_fds=[reader],
        check=False,
    )
    os.close(reader)
    assert (ended.stdout, ended.stderr) == ("piped\n", "")

"""A script or module of somebody else's, run as Python itself runs it, with our loops.

What the program sees (sys.argv, sys.path, `__main__`) is what `python script.py` and
`python -m module` would show it, and so is what its user sees: a traceback begins in the
program, and the interpreter decides the exit status. No options are read here: click must
have returned before, as it would take the program's KeyboardInterrupt for its own.
"""

from __future__ import annotations

import builtins
import io
import os
import pkgutil
import runpy
import sys
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from types import ModuleType, TracebackType

from uringloop.running import become_default

# As Python's own.
_CANNOT_OPEN = 2
_NO_SUCH_MODULE = 1


class ProgramError(Exception):
    """There is no such program."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


@dataclass(frozen=True)
class Program:
    """What to run.

    target      the path of a script, of a folder or zip file with a `__main__.py`, or the
                name of a module
    arguments   what the program finds behind sys.argv[0]
    """

    target: str
    arguments: tuple[str, ...]
    is_module: bool

    def run(self) -> None:
        """Runs the program to the end of its last line, on our loops.

        raises    what it raises, SystemExit too; ProgramError when it cannot be found
        """
        become_default()
        sys.argv = [self.target, *self.arguments]
        try:
            if self.is_module:
                _run_module(self.target)
            else:
                _run_path(self.target)
        except (ProgramError, SystemExit):
            raise
        except BaseException as error:
            frames = _frames_of_program(error.__traceback__)
            if self.is_module and frames is None and isinstance(error, ImportError):
                raise ProgramError(str(error), _NO_SUCH_MODULE) from None
            _tell_from(frames)
            raise


def _run_module(name: str) -> None:
    _set_first_path(os.getcwd())
    _keep_as_main(runpy.run_module(name, run_name="__main__", alter_sys=True))


def _run_path(path: str) -> None:
    path = os.path.join(os.getcwd(), path)  # as Python does, which leaves `..` in it
    if path.endswith(".pyc") or pkgutil.get_importer(path) is not None:
        _set_first_path(None)  # runpy puts the folder there, or the zip file
        _keep_as_main(runpy.run_path(path, run_name="__main__"))
    else:
        _run_source(path)


def _run_source(path: str) -> None:
    """Not by runpy, which puts another `__main__` back at the end, when threads may still run
    and atexit has yet to come; and which shows the program one path for both `__file__`, where
    it is absolute, and sys.argv[0], where it is as the user wrote it."""
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        raise ProgramError(f"cannot open {path}: {error.strerror}", _CANNOT_OPEN) from error
    _set_first_path(os.path.dirname(os.path.realpath(path)))
    main = ModuleType("__main__")
    loader = SourceFileLoader("__main__", path)
    vars(main).update(__file__=path, __loader__=loader, __builtins__=builtins, __cached__=None)
    sys.modules["__main__"] = main
    exec(compile(source, path, "exec", dont_inherit=True), vars(main))


def _set_first_path(folder: str | None) -> None:
    """Where the program's imports are looked for first, instead of where ours are."""
    if getattr(sys.flags, "safe_path", sys.flags.isolated):  # 3.10 knows -I alone
        return
    sys.path[:1] = [] if folder is None else [folder]


def _keep_as_main(names: dict[str, object]) -> None:
    """Threads that go on and atexit's functions find the program in `__main__`, not us."""
    vars(sys.modules["__main__"]).update(names)


def _frames_of_program(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames that led into the program; None if it was never in it."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__") in (__name__, "runpy"):
        trace = trace.tb_next
    return trace


def _tell_from(frames: TracebackType | None) -> None:
    """The interpreter, which is about to tell of an exception, shows it with these frames."""
    tell = sys.excepthook

    def tell_from_program(
        kind: type[BaseException], error: BaseException, _: TracebackType | None
    ) -> None:
        tell(kind, error.with_traceback(frames), frames)

    sys.excepthook = tell_from_program

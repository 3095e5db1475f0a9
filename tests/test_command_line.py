"""What all commands have in common: help, completion, colours. See also test_program.py,
proxy/test_command.py and test_choose.py."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.proxy.processes import LIMIT_S, command, environment, run
from uringloop.command_line import commands

PAGE = Path(__file__).resolve().parent.parent / "docs" / "command-line.md"
SHELLS = ("bash", "zsh", "fish")
# How a shell asks what may stand behind `uringloop pr`.
QUESTIONS = {
    "bash": {"COMP_WORDS": "uringloop pr", "COMP_CWORD": "1"},
    "zsh": {"COMP_WORDS": "uringloop pr", "COMP_CWORD": "1"},
    "fish": {"COMP_WORDS": "uringloop pr", "COMP_CWORD": "pr"},
}
ESCAPE = "\x1b["


@pytest.mark.parametrize("name", ["", *commands.commands])
def test_help_has_examples_and_exit_statuses(name: str) -> None:
    ended = run(*filter(None, [name]), "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"  uringloop {name}" in ended.stdout.partition("Examples:")[2]
    assert "Exit status:" in ended.stdout


def examples() -> Iterator[list[str]]:
    """All lines that begin with `uringloop` in the help texts and on the page."""
    texts = [each.epilog for each in [commands, *commands.commands.values()]]
    for text in [*texts, PAGE.read_text()]:
        for line in re.findall(r"^ *(?:[A-Z_]+=\w+ )?uringloop (.+)$", str(text), re.MULTILINE):
            yield line.split()


def test_examples_are_lines_that_the_commands_take() -> None:
    assert len(list(examples())) > 15
    for name, *arguments in examples():
        if "--help" not in arguments:
            taken = commands.commands[name].make_context(name, arguments)
            assert isinstance(taken, click.Context)


def test_the_page_tells_of_each_command_and_each_shell() -> None:
    page = PAGE.read_text()
    assert all(f"| `{name}` |" in page for name in commands.commands)
    for line in re.findall(r"^  (?:bash|zsh|fish) +(.+)$", str(commands.epilog), re.MULTILINE):
        assert f"`{line}`" in page.replace(r"\|", "|")


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_produced_for(shell: str) -> None:
    produced = run(_URINGLOOP_COMPLETE=f"{shell}_source")
    assert (produced.returncode, produced.stderr) == (0, "")
    assert f"_URINGLOOP_COMPLETE={shell}_complete" in produced.stdout
    assert f"_URINGLOOP_COMPLETE={shell}_source" in str(commands.epilog)
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=produced.stdout, text=True, check=True)


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_the_commands_in(shell: str) -> None:
    answer = run(_URINGLOOP_COMPLETE=f"{shell}_complete", **QUESTIONS[shell])
    assert "proxy" in answer.stdout
    assert "doctor" not in answer.stdout


def test_bash_completes_a_command_of_ours(tmp_path: Path) -> None:
    """In a bash that has evaluated the documented line, and in which the user presses Tab."""
    program = tmp_path / "uringloop"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m uringloop "$@"\n')
    program.chmod(0o755)
    session = """
eval "$(_URINGLOOP_COMPLETE=bash_source uringloop)"
COMP_WORDS=(uringloop do) COMP_CWORD=1
_uringloop_completion uringloop
echo "${COMPREPLY[@]}"
"""
    answer = subprocess.run(
        ["bash", "-c", session],
        env=environment(PATH=f"{tmp_path}:{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    assert (answer.stdout, answer.stderr) == ("doctor\n", "")


def on_terminal(*arguments: str, **changes: str) -> str:
    """What the command shows on a terminal."""
    ours, theirs = pty.openpty()
    variables = environment(**{"TERM": "xterm", **changes})
    try:
        with subprocess.Popen(
            command(*arguments), env=variables, stdin=theirs, stdout=theirs, stderr=theirs
        ) as process:
            os.close(theirs)
            shown = _read_all(ours)
            process.wait(LIMIT_S)
    finally:
        os.close(ours)
    return shown


def _read_all(terminal: int) -> str:
    """Up to the end of the last process that has it open, which Linux tells by EIO."""
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 65536)
        except OSError:
            return shown.decode()


@pytest.mark.parametrize("arguments", [["doctor"], ["nonsense"]])
def test_a_terminal_shows_colours_unless_they_are_not_wanted(arguments: list[str]) -> None:
    assert ESCAPE in on_terminal(*arguments, NO_COLOR="")
    assert ESCAPE not in on_terminal(*arguments, NO_COLOR="1")


def test_a_dumb_terminal_and_a_pipe_show_no_colours() -> None:
    ended = run("doctor", NO_COLOR="")
    assert "engine" in ended.stdout and ESCAPE not in ended.stdout
    assert ESCAPE not in on_terminal("doctor", NO_COLOR="", TERM="dumb")

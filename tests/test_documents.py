"""Each block of code in README and docs is right: Python is run, commands are held against the
programs that they name, the rest is parsed. A block that nothing here can check fails."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import yaml
from loops import OURS, io_uring_refusal
from markdown_it import MarkdownIt

from uringloop.command_line import commands

ROOT = Path(__file__).resolve().parent.parent
# tests/frameworks runs the blocks of the other page: they are servers, and apps of theirs.
PAGES = [
    ROOT / "README.md",
    *sorted(set((ROOT / "docs").glob("*.md")) - {ROOT / "docs/frameworks.md"}),
]
BUILD_PACKAGES = (ROOT / "build_ffi.py").read_text()
LIMIT_S = 50

# The interpreted rendering runs the same blocks on the same programs.
once = pytest.mark.skipif(os.environ.get("URINGLOOP_PURE") == "1", reason="run compiled")


class Block(NamedTuple):
    page: str
    line: int
    language: str
    code: str


def blocks_of(page: Path) -> list[Block]:
    tokens = MarkdownIt().enable("table").parse(page.read_text())
    return [
        Block(page.name, (token.map or [0])[0] + 1, token.info.strip(), token.content)
        for token in tokens
        if token.type in ("fence", "code_block")
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]


def test_there_are_pages_with_blocks_of_each_kind() -> None:
    languages = {block.language for block in BLOCKS}
    assert {"python", "sh", "yaml"} <= languages


@once
@pytest.mark.parametrize("backend", OURS)
@pytest.mark.parametrize("page", sorted({block.page for block in PYTHON}))
def test_the_python_of_a_page_runs(page: str, backend: str, tmp_path: Path) -> None:
    refusal = io_uring_refusal() if backend == "io_uring" else None
    if refusal:
        pytest.skip(refusal)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "tests/programs/document_blocks.py")],
        input=json.dumps([block[:2] + block[3:] for block in PYTHON if block.page == page]),
        env={**os.environ, "URINGLOOP_BACKEND": backend, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("all blocks ran\n")


@pytest.mark.parametrize(
    "block",
    [block for block in BLOCKS if block.language != "python"],
    ids=lambda block: f"{block.page}:{block.line}",
)
def test_a_block_of_another_language_is_right(block: Block) -> None:
    if not block.language.startswith("{"):  # a directive: building the documents checks it
        assert block.language in CHECKS, "a block in a language that no check knows"
        CHECKS[block.language](block.code)


def check_shell(code: str) -> None:
    subprocess.run(["sh", "-n"], input=code, text=True, check=True, timeout=LIMIT_S)
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            check_variable(words.pop(0))
        if words:
            check_command(words)


def check_variable(word: str) -> None:
    name = word.partition("=")[0]
    known = name.startswith(("PYTHON", "SIMULATOR_", "TESTS_")) or name == "NO_COLOR"
    assert known or name in (ROOT / "docs/deployment.md").read_text()


def check_command(words: list[str]) -> None:
    if words[:2] == ["python", "-m"]:
        program, arguments = f"python -m {words[2].partition('.')[0]}", words[2:]
    else:
        program, arguments = words[0], words[1:]
    assert program in COMMANDS, f"no check knows the command {program}"
    COMMANDS[program](arguments)


def check_uringloop(arguments: list[str]) -> None:
    """Parsed by the command line itself, down to the last option; not run."""
    name, *rest = arguments[1:] if arguments[0] == "uringloop" else arguments
    try:
        commands.commands[name].make_context(name, rest)
    except click.exceptions.Exit as end:  # --help and its like
        assert end.exit_code == 0


def check_module(arguments: list[str]) -> None:
    """Its options are in its help."""
    module, *rest = arguments
    assert_options_in(rest, subprocess_text([sys.executable, "-m", module, "--help"]))


def check_bench_run(arguments: list[str]) -> None:
    check_module(["bench.matrix", *arguments])


def check_script(name: str) -> Callable[[list[str]], None]:
    def check(arguments: list[str]) -> None:
        script = ROOT / name
        assert os.access(script, os.X_OK)
        if script.name == "demo" and arguments and not arguments[0].startswith("-"):
            check_uringloop(["proxy", *arguments])
        else:
            assert_options_in(arguments, script.read_text())

    return check


def check_pip(arguments: list[str]) -> None:
    """Its extras are extras of ours."""
    project = (ROOT / "pyproject.toml").read_text()
    for extra in re.findall(r"\[(.*?)\]", " ".join(arguments)):
        for name in extra.split(","):
            assert re.search(rf"^{name} = \[", project, re.MULTILINE)


def check_apt(arguments: list[str]) -> None:
    for package in arguments[1:]:
        assert package in BUILD_PACKAGES


def check_container(arguments: list[str]) -> None:
    """The files and stages that it names are there, and what runs inside is a command of ours."""
    for path in re.findall(r"docker/[\w.-]+", " ".join(arguments)):
        assert (ROOT / path).is_file()
    if "--target" in arguments:
        stage = arguments[arguments.index("--target") + 1]
        assert f" AS {stage}\n" in (ROOT / "Dockerfile").read_text()
    if arguments[0] == "run":
        check_uringloop(arguments[arguments.index("uringloop") :])


def check_benchmark_python(arguments: list[str]) -> None:
    check_module(arguments[1:])


def subprocess_text(command: list[str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=LIMIT_S
    )
    return done.stdout


def assert_options_in(arguments: list[str], text: str) -> None:
    for option in (word.partition("=")[0] for word in arguments if word.startswith("--")):
        assert option in text


def check_ini(code: str) -> None:
    configparser.ConfigParser(strict=False).read_string(code)


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "uringloop": check_uringloop,
    "python -m uringloop": check_uringloop,
    "python -m bench": check_module,
    "python -m tests": check_module,
    ".bench/bin/python": check_benchmark_python,
    "bench/run": check_bench_run,
    "./check": check_script("check"),
    "./demo": check_script("demo"),
    **{
        name: check_script(name)
        for name in (
            "scripts/container.sh",
            "scripts/kernels.sh",
            "scripts/platforms.sh",
            "scripts/wheels.sh",
        )
    },
    "pip": check_pip,
    "apt-get": check_apt,
    "docker": check_container,
    "podman": check_container,
}
CHECKS: dict[str, Callable[[str], object]] = {
    "sh": check_shell,
    "yaml": yaml.safe_load,
    "ini": check_ini,
    "json": json.loads,
    "text": str,  # what a program prints: nothing to run
}

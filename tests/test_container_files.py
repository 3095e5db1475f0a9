"""docker/: the profiles are Docker's default with io_uring allowed, and no more than that."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from children import run_program
from container_profiles import FACTS
from loops import io_uring_refusal

ROOT = Path(__file__).resolve().parent.parent
PROFILES = {
    "docker": ROOT / "docker/seccomp.json",
    "kubernetes": ROOT / "docker/seccomp-kubernetes.json",
}
IO_URING = {"io_uring_setup", "io_uring_enter", "io_uring_register"}
# Of what Docker gives a container; the only one of them that the default profile asks for.
BY_DEFAULT_CAPABILITY = {"chroot"}
ALLOWED = "SCMP_ACT_ALLOW"
COMPARED = {
    "SCMP_CMP_EQ": lambda found, rule: found == rule["value"],
    "SCMP_CMP_LT": lambda found, rule: found < rule["value"],
    "SCMP_CMP_GT": lambda found, rule: found > rule["value"],
    "SCMP_CMP_MASKED_EQ": lambda found, rule: found & rule["value"] == rule.get("valueTwo", 0),
}


def docker_facts() -> tuple[set[str], configparser.SectionProxy]:
    """What Docker's default allows without a condition, and its section of facts."""
    facts = configparser.ConfigParser()
    facts.optionxform = str  # type: ignore[assignment,method-assign]
    facts.read(FACTS)
    return {*facts["both"]["allowed"].split(), *facts["docker"]["allowed"].split()}, facts["docker"]


def rules_of(path: Path) -> list[dict[str, Any]]:
    """Those that hold for a process without capabilities, on a 64-bit machine of Intel's kind."""
    rules: list[dict[str, Any]] = json.loads(path.read_text())["syscalls"]
    return [rule for rule in rules if is_in_force(rule.get("includes", {}))]


def is_in_force(includes: dict[str, Any]) -> bool:
    return "caps" not in includes and "amd64" in includes.get("arches", ["amd64"])


def answers(path: Path, name: str, first_argument: int = 0) -> str:
    """What a call of that name is answered: the first rule that fits, else the default."""
    for rule in rules_of(path):
        if name in rule["names"] and all(
            COMPARED[condition["op"]](first_argument, condition)
            for condition in rule.get("args", [])
        ):
            return str(rule["action"])
    return str(json.loads(path.read_text())["defaultAction"])


@pytest.mark.parametrize("kind", PROFILES)
def test_a_profile_allows_what_dockers_default_does_and_io_uring(kind: str) -> None:
    allowed, _ = docker_facts()
    unconditional = {
        name
        for rule in rules_of(PROFILES[kind])
        if rule["action"] == ALLOWED and "args" not in rule
        for name in rule["names"]
    }
    beside = {"socket"} | (BY_DEFAULT_CAPABILITY if kind == "kubernetes" else set())
    # The facts are about 64-bit Intel; the profile also has names of other machines.
    assert allowed - beside <= unconditional
    assert unconditional >= IO_URING
    assert not {"bpf", "mount", "unshare", "userfaultfd", "keyctl", "reboot"} & unconditional


@pytest.mark.parametrize("kind", PROFILES)
def test_a_profile_has_the_conditions_of_dockers_default(kind: str) -> None:
    _, facts = docker_facts()
    for line in facts["conditions"].strip().splitlines():
        name, _, mask, value, answer = line.split()
        is_allowed = answer == "allowed"
        fitting = int(value)
        other = fitting + 1 if int(mask, 16) == 0xFFFFFFFF else int(mask, 16)
        assert (answers(PROFILES[kind], name, fitting) == ALLOWED) is is_allowed
        if is_allowed:
            assert answers(PROFILES[kind], name, other) != ALLOWED
    assert answers(PROFILES[kind], "clone3") != ALLOWED


def test_the_kubernetes_profile_has_no_conditions_that_kubernetes_does_not_know() -> None:
    for rule in json.loads(PROFILES["kubernetes"].read_text())["syscalls"]:
        assert set(rule) <= {"names", "action", "args", "errnoRet"}


@pytest.mark.skipif(io_uring_refusal() is not None, reason=io_uring_refusal() or "")
@pytest.mark.parametrize("kind", PROFILES)
def test_under_a_profile_of_ours_io_uring_serves(kind: str) -> None:
    out = run_program("under_profile.py", str(PROFILES[kind]), URINGLOOP_BACKEND="io_uring")
    assert out.splitlines() == ["io_uring", "smoke passed"]


def test_the_services_of_the_compose_file_differ_in_the_profile_alone() -> None:
    services = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
    denied, allowed = services["denied"], services["allowed"]
    assert (denied["image"], denied["command"]) == (allowed["image"], allowed["command"])
    assert "security_opt" not in denied
    (profile,) = allowed["security_opt"]
    assert (ROOT / "docker" / profile.removeprefix("seccomp:")).is_file()
    stages = re.findall(r" AS (\w+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert denied["build"]["target"] in stages

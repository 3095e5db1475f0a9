"""The smoke on a loop of the environment's kind, under a seccomp profile in JSON, put into force
by libseccomp as container runtimes do; for a process without capabilities, of this machine."""

import errno
import json
import platform
import sys
from pathlib import Path

import pyseccomp

ACTIONS = {
    "SCMP_ACT_ALLOW": lambda rule: pyseccomp.ALLOW,
    "SCMP_ACT_ERRNO": lambda rule: error(rule),
}
OPERATORS = {
    "SCMP_CMP_EQ": pyseccomp.EQ,
    "SCMP_CMP_LT": pyseccomp.LT,
    "SCMP_CMP_GT": pyseccomp.GT,
    "SCMP_CMP_MASKED_EQ": pyseccomp.MASKED_EQ,
}
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def error(rule):
    return pyseccomp.ERRNO(rule.get("errnoRet", errno.EPERM))


def is_in_force(rule):
    includes = rule.get("includes", {})
    machine = MACHINES[platform.machine()]
    return "caps" not in includes and machine in includes.get("arches", [machine])


def condition(entry):
    values = [entry["value"]]
    if entry["op"] == "SCMP_CMP_MASKED_EQ":
        values.append(entry.get("valueTwo", 0))
    return pyseccomp.Arg(entry["index"], OPERATORS[entry["op"]], *values)


def enforce(profile):
    made = pyseccomp.SyscallFilter(pyseccomp.ERRNO(profile["defaultErrnoRet"]))
    for rule in rules_in_force(profile):
        for name in rule["names"]:
            if is_known(name):
                action = ACTIONS[rule["action"]](rule)
                made.add_rule(action, name, *map(condition, rule.get("args", [])))
    made.load()


def rules_in_force(profile):
    return [rule for rule in profile["syscalls"] if is_in_force(rule)]


def is_known(name):
    """To this libseccomp, which may be older than the profile."""
    try:
        return pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) >= 0
    except ValueError:
        return False


enforce(json.loads(Path(sys.argv[1]).read_text()))

import uringloop  # noqa: E402

loop = uringloop.new_event_loop()
print(loop.backend)
loop.close()

from smoke import run  # noqa: E402

run()

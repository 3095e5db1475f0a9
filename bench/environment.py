"""The machine and the programs that a set of figures belongs to.

Figures without these mean nothing, so every JSON file and every table begins with them.
No host name and no path: what is here may be published.
"""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

CPU_INFO = Path("/proc/cpuinfo")


def describe_environment() -> dict[str, Any]:
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu_model": cpu_model(CPU_INFO.read_text()),
        "cores": os.cpu_count(),
        "cores_allowed": len(os.sched_getaffinity(0)),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libc": " ".join(platform.libc_ver()),
        "load_average": round(os.getloadavg()[0], 2),
    }


def cpu_model(cpu_info: str) -> str:
    """The model's name in /proc/cpuinfo; some architectures give none."""
    for line in cpu_info.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "cpu"):
            return value.strip()
    return "unknown"


def one_line(environment: dict[str, Any]) -> str:
    return (
        "{cpu_model}, {cores_allowed} of {cores} cores, kernel {kernel}, {python}, "
        "{date}, load average {load_average} at the start"
    ).format(**environment)

"""RUN/environment.json: what a run was made with; without importing any of it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from fcn4dist import __version__

PACKAGES = (
    *("mindspore", "numpy", "scipy", "scikit-learn", "soundfile", "soxr"),
    *("pydantic", "rich", "psutil", "safetensors", "onnxruntime"),
)
CPUINFO = Path("/proc/cpuinfo")


def describe_environment(cann: str | None) -> dict[str, Any]:
    """Return versions, CANN's among them, host, processor and memory; nothing of the user's variables, which may hold secrets."""
    return {
        "time": round(time.time(), 3),
        "command": ["fcn4dist", *sys.argv[1:]],
        "host": socket.gethostname(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor_name(CPUINFO) or platform.processor() or "unknown",
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
        "cann": cann,
        "fcn4dist": __version__,
        "packages": {name: version for name in PACKAGES if (version := _installed(name)) is not None},
    }


def processor_name(cpuinfo: Path) -> str | None:
    """Return the processor's name as /proc/cpuinfo has it."""
    try:
        found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        return None
    return found[1].strip() if found else None


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

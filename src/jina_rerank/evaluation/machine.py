"""Description of the processor on which figures were measured."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path


def processor() -> str:
    """Describe this machine's processor: name, cores, and the GPU if torch is loaded and has one.

    For example `AMD EPYC 9454, 2 cores`.
    """
    name = _cpu_name() or platform.processor() or platform.machine() or "unknown processor"
    cores = os.cpu_count() or 1
    found = f"{name}, {cores} core{'s' if cores > 1 else ''}"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found += f"; {torch.cuda.get_device_name()}"
    return found


def _cpu_name() -> str | None:
    """Read the processor's name from /proc/cpuinfo; None on systems other than Linux."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return None
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return " ".join(value.split())
    return None

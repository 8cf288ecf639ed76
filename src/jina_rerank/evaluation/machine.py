"""The processor that figures were measured on, in words."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path


def processor() -> str:
    """The name and the cores of this machine's processor, and its GPU if torch has loaded one.

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
    """Linux tells it in a file; other systems tell it to Python."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return None
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return " ".join(value.split())
    return None

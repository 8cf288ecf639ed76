"""Importing torch on a thread without stopping all others."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path


def import_torch() -> None:
    """Import torch so that an event loop on another thread keeps running.

    Python holds its lock while the dynamic linker reads an extension module with all that it
    needs: some 0.2 s for libtorch_cpu, in which no other thread runs. A foreign function
    called through ctypes runs without that lock, so the linker is called that way first, and
    the import finds the libraries loaded. Where this is not possible, only time is lost.
    """
    spec = importlib.util.find_spec("torch")
    if "torch" not in sys.modules and sys.platform == "linux" and spec and spec.origin:
        dlopen = ctypes.CDLL(None).dlopen
        dlopen.argtypes = [ctypes.c_char_p, ctypes.c_int]
        folder = Path(spec.origin).parent / "lib"
        # In the order, and with the visibility, in which torch itself loads them.
        for library, flags in (
            ("libtorch_global_deps.so", os.RTLD_LAZY | os.RTLD_GLOBAL),
            ("libtorch_cpu.so", os.RTLD_LAZY),
            ("libtorch_python.so", os.RTLD_LAZY),
        ):
            dlopen(str(folder / library).encode(), flags)
    import torch  # noqa: F401 - importing it is the purpose

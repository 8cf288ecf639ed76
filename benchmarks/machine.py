"""The machine that a result was measured on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = (
    "jina-rerank", "torch", "transformers", "sentence-transformers", "onnxruntime", "openvino",
    "nncf", "ctranslate2",
)  # fmt: skip

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")

CAPS = ("ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY")
"""Variables that keep libraries from using all that the processor has."""


def describe() -> dict[str, object]:
    """Processor, its flags that matter here, cores, versions, date and load."""
    cpu = _cpu_info()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
        "flags": flags(),
        "capped": {name: os.environ[name] for name in CAPS if name in os.environ},
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def flags() -> list[str]:
    """The processor's flags that matter here."""
    found = _cpu_info().get("flags", "").split()
    return [flag for flag in FLAGS if flag in found]


def has_bfloat16() -> bool:
    """Tell whether the processor has bfloat16 units, and libraries may use them.

    Not asked of OpenVINO: it names bfloat16 even where it would emulate it.
    """
    return "ONEDNN_MAX_CPU_ISA" not in os.environ and bool({"avx512_bf16", "amx_bf16"} & {*flags()})


def _cpu_info() -> dict[str, str]:
    """Linux's description of the first processor; empty on other systems."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").split("\n\n", 1)[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

"""Long documents, their time and what they add to memory; turbo's shape."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from .measuring import Contender, Result, Target, interleave
from .peers import OriginalsWay
from .shapes import TURBO, engine, run_engine
from .work import uniform_lengths

LONG = uniform_lengths(16, 1000, 2000)
LONGEST = [8192]
FULL_BIAS = "8,192 tokens, full bias (the original's way), float32"


def measure(rounds: int, *, quick: bool) -> Result:
    """Both works in both dtypes, and the full bias on the longest document.

    Args:
        rounds: Rounds that count.
        quick: Without the full bias.
    """
    contenders: dict[str, Contender] = {}
    for dtype in (torch.float32, torch.bfloat16):
        label = str(dtype).removeprefix("torch.")
        model = engine(TURBO, dtype)
        contenders[f"16 documents of 1,000 to 2,000 tokens, {label}"] = partial(
            run_engine, model, LONG
        )
        contenders[f"8,192 tokens, {label}"] = partial(run_engine, model, LONGEST)
    if not quick:
        original = OriginalsWay(TURBO)
        contenders[FULL_BIAS] = partial(original.run, LONGEST, by_length=False)
    result = Result("long_documents", f"16 documents, {sum(LONG):,} tokens; and one of 8,192")
    result.seconds = interleave(contenders, 1 if quick else min(rounds, 2))
    for label in ("float32", "bfloat16"):
        for name, work in (("16 documents", "LONG"), ("8,192 tokens", "LONGEST")):
            megabytes = in_a_process(work, label)
            result.figures[f"MB above the weights, {name}, {label}"] = megabytes
            result.targets.append(Target(f"MB, {name}, {label}", 300, megabytes, at_least=False))
    if not quick:
        result.figures["MB above the weights, 8,192 tokens, full bias"] = in_a_process(
            "LONGEST", "original"
        )
        for label in ("float32", "bfloat16"):
            ratio = result.median(FULL_BIAS) / result.median(f"8,192 tokens, {label}")
            result.targets.append(Target(f"times as fast as the full bias, {label}", 4, ratio))
    return result


def in_a_process(work: str, kind: str) -> float:
    """The peak above the weights in megabytes, in a process that does nothing else.

    Args:
        work: The name of the lengths in this module.
        kind: A dtype, or "original".
    """
    code = f"from benchmarks import long_documents as own; print(own.peak({work!r}, {kind!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def peak(work: str, kind: str) -> float:
    """The function that `in_a_process` runs there.

    Args:
        work: As there.
        kind: As there.
    """
    lengths: list[int] = globals()[work]
    run: Callable[[list[int]], object]
    if kind == "original":
        run = partial(OriginalsWay(TURBO).run, by_length=False)
    else:
        run = partial(run_engine, engine(TURBO, getattr(torch, kind)))
    run([64, 64, 64])  # threads, kernels and libraries are there before
    before = high_water_mark()
    run(lengths)
    return high_water_mark() - before


def high_water_mark() -> float:
    """The most memory that this process has had, in MB.

    From Linux's /proc: getrusage's figure is inherited from the parent.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024

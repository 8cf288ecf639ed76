"""Freed memory goes back to the operating system."""

from __future__ import annotations

import ctypes

import pytest
from other_process import run_python


def test_gaps_in_the_heap_are_returned() -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("the C library is not glibc")
    done = run_python("""
        from pathlib import Path
        from jina_rerank.distillation.training.memory import return_freed_memory

        def resident():
            return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

        # Smaller than what glibc allocates by itself, so all are in the heap.
        blocks = [bytes([1]) * 100_000 for _ in range(2_000)]
        last = blocks[-1]
        del blocks
        kept = resident()
        return_freed_memory()
        print(kept - resident())
    """)
    assert int(done.stdout) > 150_000_000, done.stderr

"""Waiting for a cluster of processes."""

import time
from collections.abc import Callable


def eventually(holds: Callable[[], bool]) -> None:
    """Wait for something that is bound to happen, on a machine however busy."""
    end = time.monotonic() + 240
    while not holds():
        assert time.monotonic() < end, "it never did"
        time.sleep(0.02)

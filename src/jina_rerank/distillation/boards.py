"""TensorBoard's files of a run, where TensorBoard is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

WriteFigures = Callable[[int, Mapping[str, float]], None]
"""Takes a step's number and figures."""


@contextmanager
def tensorboard(folder: Path) -> Iterator[WriteFigures | None]:
    """What writes figures for TensorBoard; None without it, since the log holds them too.

    Args:
        folder: Where TensorBoard is to look.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        yield None
        return
    with SummaryWriter(folder) as writer:

        def write(step: int, figures: Mapping[str, float]) -> None:
            for name, value in figures.items():
                writer.add_scalar(name, value, step)

        yield write

"""TensorBoard's files of a run, where TensorBoard is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .._output import writing

WriteFigures = Callable[[int, Mapping[str, float]], None]
"""Takes a step's number and figures."""


@contextmanager
def tensorboard(folder: Path) -> Iterator[WriteFigures | None]:
    """Writer of figures for TensorBoard; None without it, since the log holds them too.

    Args:
        folder: Where TensorBoard is to look.

    Raises:
        InputError: It cannot be written.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        yield None
        return
    with writing(folder):
        writer = SummaryWriter(folder)

    def write(step: int, figures: Mapping[str, float]) -> None:
        with writing(folder):
            for name, value in figures.items():
                writer.add_scalar(name, value, step)

    try:
        yield write
    finally:
        with writing(folder):
            writer.close()

"""TensorBoard's files of a run, if TensorBoard is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..._output import writing

WriteFigures = Callable[[int, Mapping[str, float]], None]
"""Function of a step's number and figures, which writes them."""


@contextmanager
def tensorboard(folder: Path) -> Iterator[WriteFigures | None]:
    """Open a writer of figures for TensorBoard; None if it is not installed, as there is the log.

    Args:
        folder: TensorBoard's log folder.

    Raises:
        InputError: The folder cannot be written.
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

"""TensorBoard's files of a run, where TensorBoard is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self


class Board:
    """Writes a run's figures for TensorBoard; without it nothing, since the log holds them too.

    Args:
        folder: Where TensorBoard is to look.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._writer = None
        else:
            self._writer = SummaryWriter(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Write a step's figures."""
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)

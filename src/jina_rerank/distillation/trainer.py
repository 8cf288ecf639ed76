"""The training loop: deterministic, resumable at any step, at home on two cores and on a GPU.

What a step trains on is a function of the step's number alone, so a run that was killed goes on
from its last saved state exactly as if nothing had happened.

Weights are kept and updated in float32. In bf16 the products are computed with a rounded copy,
which the optimizer writes anew after each step: the arithmetic of inference.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from .._output import writing
from ..encoders import JinaBert
from ..encoders.cpu import team
from ..errors import ConfigurationError, ScoringError
from ..scorers.device import choose_device, choose_dtype

logger = logging.getLogger(__name__)

S_co = TypeVar("S_co", covariant=True)
S = TypeVar("S")

STATE = "state.pt"
LOG = "log.jsonl"


class Objective(Protocol[S]):
    """The objective of a training."""

    def shares(self, step: int, parts: int) -> Sequence[S]:
        """Batches of a step, in about equal parts: a function of the arguments alone.

        Args:
            step: Counted from 0.
            parts: How many are wanted; there may be fewer.
        """
        ...

    def loss(self, model: JinaBert, share: S) -> tuple[Tensor, Mapping[str, float]]:
        """The loss of a share, to be added up over shares, and figures for the log."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a training.

    Attributes:
        steps: How many. A run may be continued with another number.
        learning_rate: The highest; AdamW.
        warm_up: Steps over which it rises from zero.
        decay: The last steps, over which it falls in a line to a fiftieth. Before, it stays, so
            that a run can be made longer (Hu et al., MiniCPM, arXiv:2404.06395).
        weight_decay: AdamW's, on matrices only.
        clip: Longest gradient over all parameters.
        dtype: What to compute in, and teachers on this machine as well; bfloat16 where that is
            faster, see `choose_dtype`.
        save_every: Steps between two saved states.
    """

    steps: int
    learning_rate: float = 1e-4
    warm_up: int = 100
    decay: int = 200
    weight_decay: float = 0.01
    clip: float = 1.0
    dtype: torch.dtype = field(default_factory=lambda: choose_dtype("auto", choose_device("auto")))
    save_every: int = 100

    @property
    def decay_from(self) -> int:
        """The step from which the learning rate falls."""
        return max(0, self.steps - self.decay)

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        rising = min(1.0, (step + 1) / max(1, self.warm_up))
        falling = min(1.0, max(0.02, (self.steps - step) / max(1, self.decay)))
        return self.learning_rate * min(rising, falling)


class Trainer(Generic[S]):
    """Trains a model.

    Args:
        model: Trained in place, in float32.
        objective: What is to be learned.
        settings: How.
        folder: Where the state and the log go. A state that is there is taken up.
        after_save: Called with the step whenever the state has been saved, to evaluate.
        learned: By parameter, 1 for elements that are learned and 0 for those whose gradient is
            left out, in a shape that fits; all are in parameters that are not named.
        student: What else decides which model this is, if anything does; compared like settings.

    Raises:
        ConfigurationError: The folder holds the state of a run with other settings or of another
            model, or one that cannot be read.
    """

    def __init__(
        self,
        model: JinaBert,
        objective: Objective[S],
        settings: Settings,
        folder: Path,
        after_save: Callable[[int], None] | None = None,
        *,
        learned: Mapping[str, Tensor] | None = None,
        student: str | None = None,
    ) -> None:
        self.model = model.float().train().requires_grad_(True)
        self._objective = objective
        self._settings = settings
        self._folder = folder
        self._after_save = after_save
        self._student = student
        self._master = list(model.parameters())
        masks = learned or {}
        self._learned = [masks.get(name) for name, _ in model.named_parameters()]
        self._copy = model
        if settings.dtype != torch.float32:
            self._copy = copy.deepcopy(model).to(settings.dtype)
        self._working = list(self._copy.parameters())
        on_cpu = self._master[0].device.type == "cpu"
        self._parts = torch.get_num_threads() if on_cpu else 1
        matrices = [p for p in self._master if p.ndim > 1]
        others = [p for p in self._master if p.ndim < 2]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.step = 0
        if (folder / STATE).is_file():
            self._take_up()

    def run(
        self,
        *,
        until: int | None = None,
        progress: bool = False,
        on_step: Callable[[int, Mapping[str, float]], None] | None = None,
    ) -> None:
        """Train to the end.

        Args:
            until: Stop before this step, with the state saved.
            progress: Show a bar on standard error.
            on_step: Called with each step's number, counted from 1, and its figures.

        Raises:
            ScoringError: A gradient is not finite. Nothing of that step is kept.
            InputError: The state or the log cannot be written.
        """
        settings = self._settings
        last = settings.steps if until is None else min(until, settings.steps)
        self._cut_log()
        with (
            (self._folder / LOG).open("a", encoding="utf-8") as log,
            tqdm(total=settings.steps, initial=self.step, disable=not progress) as bar,
        ):
            while self.step < last:
                started = time.perf_counter()
                figures = self._train_one_step()
                self.step += 1
                figures |= {"step": self.step, "seconds": time.perf_counter() - started}
                with writing(self._folder / LOG):
                    log.write(json.dumps(figures) + "\n")
                    log.flush()
                if on_step is not None:
                    on_step(self.step, figures)
                bar.update()
                bar.set_postfix(loss=f"{figures['loss']:.4f}")
                if self.step % settings.save_every == 0 or self.step == last:
                    self._save()
                    if self._after_save is not None:
                        self._after_save(self.step)

    def _cut_log(self) -> None:
        """Leave out what was logged after the last saved state: it is done, and logged, again."""
        path = self._folder / LOG
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
            kept = [line for line in lines if _step_of(line) <= self.step]
            if len(kept) < len(lines):
                new = path.with_suffix(".new")
                new.write_bytes(b"".join(kept))
                new.replace(path)

    def _train_one_step(self) -> dict[str, float]:
        shares = self._objective.shares(self.step, self._parts)
        done = (
            [self._gradients(shares[0])]
            if len(shares) == 1
            else team(len(shares)).map(self._gradients, shares)
        )
        gradients = zip(*(grads for grads, _ in done), strict=True)
        for master, mask, parts in zip(self._master, self._learned, gradients, strict=True):
            # In a fixed order: a sum of floats depends on it.
            total = parts[0].float()
            for part in parts[1:]:
                total += part
            master.grad = total if mask is None else total.mul_(mask.to(total.device))
        norm = torch.nn.utils.clip_grad_norm_(self._master, self._settings.clip)
        if not bool(norm.isfinite()):
            raise ScoringError(
                f"step {self.step}: the gradient is not finite; try a lower learning_rate, or "
                'dtype = "float32". The last saved state is as it was'
            )
        rate = self._settings.rate(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._write_copy()
        figures: dict[str, float] = {}
        for _, part in done:
            for name, value in part.items():
                figures[name] = figures.get(name, 0.0) + value
        return figures | {"learning_rate": rate, "gradient": float(norm)}

    def _gradients(self, share: S) -> tuple[Sequence[Tensor], Mapping[str, float]]:
        loss, figures = self._objective.loss(self._copy, share)
        # Not backward(): threads would add to the same gradients in an order of chance.
        gradients = torch.autograd.grad(loss, self._working, materialize_grads=True)
        return gradients, {"loss": float(loss.detach()), **figures}

    def _write_copy(self) -> None:
        if self._copy is not self.model:
            with torch.no_grad():
                for working, master in zip(self._working, self._master, strict=True):
                    working.copy_(master)

    def _save(self) -> None:
        state = {
            "step": self.step,
            "settings": _plain(self._settings),
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        if self._student is not None:
            state["student"] = self._student
        new = self._folder / f"{STATE}.new"
        with writing(new):
            try:
                torch.save(state, new)
            except RuntimeError as error:  # what torch makes of a full disk
                raise OSError(f"is there room on the disk? {error}") from error
            new.replace(self._folder / STATE)

    def _take_up(self) -> None:
        try:
            # To the processor first: it may be from a GPU that this machine does not have.
            state = torch.load(self._folder / STATE, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ConfigurationError(
                f"{self._folder / STATE}: is no state that can be read; name another folder, or "
                "delete it to begin anew"
            ) from error
        if state["settings"] | {"steps": self._settings.steps} != _plain(self._settings):
            raise ConfigurationError(
                f"{self._folder} holds a run with other settings; name another folder, or "
                f"give those: {state['settings']}"
            )
        another = f"{self._folder} holds a run of another student; name another folder"
        if state.get("student") != self._student:
            raise ConfigurationError(another)
        try:
            self.model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:  # of another shape
            raise ConfigurationError(another) from error
        self.step = state["step"]
        self._write_copy()
        logger.info("goes on from step %d of %s", self.step, self._folder)


def _step_of(line: bytes) -> float:
    """The step of a log line; beyond all for half a line, which a killed run leaves."""
    try:
        return float(json.loads(line)["step"]) if line.endswith(b"\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf


def _plain(settings: Settings) -> dict[str, object]:
    return asdict(settings) | {"dtype": str(settings.dtype)}

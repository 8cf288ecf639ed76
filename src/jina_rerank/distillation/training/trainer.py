"""The training loop: deterministic, resumable at any step, for two CPU cores as well as a GPU.

The data of a step is a function of the step's number alone, so a run that was killed continues from
its last saved state exactly as if it had not been interrupted.

Weights are kept and updated in float32. In bf16 the products are computed with a rounded copy of
the weights, which is written again after each step. This is the arithmetic of inference.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from ..._output import writing
from ...encoders import EncoderModel
from ...encoders.checkpoint import read_pickle
from ...encoders.cpu import team
from ...errors import ConfigurationError, ModelLoadError, ScoringError
from ...scorers.device import choose_device, choose_dtype
from ..settings import Count, MoreThan0, NotNegative, Settings, Steps, TorchDtype
from .memory import return_freed_memory

logger = logging.getLogger(__name__)

S_co = TypeVar("S_co", covariant=True)
S = TypeVar("S")

RETURN_EVERY = 10
"""Number of steps after which freed memory is returned to the operating system. In these steps the
process grows by some gigabytes."""

STATE = "state.pt"
LOG = "log.jsonl"


class Objective(Protocol[S]):
    """The objective of a training."""

    def micro_batches(self, step: int, parts: int) -> Sequence[S]:
        """Return the batches of a step, of about equal size: a function of the arguments alone.

        Args:
            step: Number of the step, counted from 0.
            parts: Maximum number of batches.
        """
        ...

    def loss(self, model: EncoderModel, batch: S) -> tuple[Tensor, Mapping[str, float]]:
        """Compute a batch's loss, to be summed over the step's batches, and figures for the log."""
        ...


class TrainingSettings(Settings):
    """Settings of a training.

    Attributes:
        steps: Number of steps. A run may be continued with another number.
        learning_rate: AdamW's highest learning rate.
        warm_up: Steps over which the learning rate rises from zero.
        decay: The last steps, over which the learning rate falls linearly to a fiftieth. Between
            warm-up and decay it is constant, so that a run can be extended (Hu et al., MiniCPM,
            arXiv:2404.06395).
        weight_decay: AdamW's weight decay, on matrices only.
        clip: Maximum norm of the gradient over all parameters.
        dtype: Data type of the computation, also of teachers on this machine; bfloat16 where that
            is faster, see `choose_dtype`.
        save_every: Steps between two saved states.
    """

    steps: Count
    learning_rate: MoreThan0 = 1e-4
    warm_up: Steps = 100
    decay: Steps = 200
    weight_decay: NotNegative = 0.01
    clip: MoreThan0 = 1.0
    dtype: TorchDtype = Field(default_factory=lambda: choose_dtype("auto", choose_device("auto")))
    save_every: Count = 100

    def rate(self, step: int) -> float:
        """Compute the learning rate of a step."""
        rising = min(1.0, (step + 1) / max(1, self.warm_up))
        falling = min(1.0, max(0.02, (self.steps - step) / max(1, self.decay)))
        return self.learning_rate * min(rising, falling)


class Trainer(Generic[S]):
    """Trains a model.

    Args:
        model: The model, trained in place, in float32.
        objective: Objective of the training.
        settings: Settings of the training.
        folder: Folder of the state and the log. A state in it is resumed.
        after_save: Called with the step whenever the state has been saved, to evaluate.
        masks: A mask per parameter name, in a shape that can be broadcast: 1 for trained elements,
            0 for frozen ones. Parameters that are not named are trained.
        identity: Digests or values of all else that determines the weights, by the names of its
            parts; compared with the saved state's, as settings are.

    Raises:
        ConfigurationError: The folder's state cannot be read, or is of a run with other settings,
            of another identity or of another model.
    """

    def __init__(
        self,
        model: EncoderModel,
        objective: Objective[S],
        settings: TrainingSettings,
        folder: Path,
        after_save: Callable[[int], None] | None = None,
        *,
        masks: Mapping[str, Tensor] | None = None,
        identity: Mapping[str, str] | None = None,
    ) -> None:
        self.model = model.float().train().requires_grad_(True)
        self._objective = objective
        self._settings = settings
        self._folder = folder
        self._after_save = after_save
        self._identity = dict(identity or {})
        self._master = list(model.parameters())
        given = masks or {}
        self._masks = [given.get(name) for name, _ in model.named_parameters()]
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
            self._resume()

    def run(
        self,
        *,
        until: int | None = None,
        progress: bool = False,
        on_step: Callable[[int, Mapping[str, float]], None] | None = None,
    ) -> None:
        """Train to the end.

        Args:
            until: Step before which to stop, with the state saved.
            progress: True to show a progress bar on standard error.
            on_step: Called with each step's number, counted from 1, and its figures.

        Raises:
            ScoringError: A gradient is not finite. The saved state does not include that step.
            InputError: The state or the log cannot be written.
        """
        settings = self._settings
        last = settings.steps if until is None else min(until, settings.steps)
        cut_log(self._folder / LOG, self.step)
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
                if self.step % RETURN_EVERY == 0:
                    return_freed_memory()
                if self.step % settings.save_every == 0 or self.step == last:
                    self._save()
                    if self._after_save is not None:
                        self._after_save(self.step)

    def _train_one_step(self) -> dict[str, float]:
        batches = self._objective.micro_batches(self.step, self._parts)
        done = (
            [self._gradients(batches[0])]
            if len(batches) == 1
            else team(len(batches)).map(self._gradients, batches)
        )
        gradients = zip(*(grads for grads, _ in done), strict=True)
        for master, mask, parts in zip(self._master, self._masks, gradients, strict=True):
            # In a fixed order, on which the rounding of the sum depends.
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

    def _gradients(self, batch: S) -> tuple[Sequence[Tensor], Mapping[str, float]]:
        loss, figures = self._objective.loss(self._copy, batch)
        # Not backward(): threads would add to the same gradients in a random order.
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
            "identity": self._identity,
        }
        new = self._folder / f"{STATE}.new"
        with writing(new):
            try:
                torch.save(state, new)
            except RuntimeError as error:  # torch's error for a full disk
                raise OSError(f"is there room on the disk? {error}") from error
            new.replace(self._folder / STATE)

    def _resume(self) -> None:
        state = _read_state(self._folder / STATE)
        _check_identity(self._folder, state.get("identity", {}), self._identity)
        if state["settings"] | {"steps": self._settings.steps} != _plain(self._settings):
            raise ConfigurationError(
                f"{self._folder} holds a run with other settings; name another folder, or "
                f"give those: {state['settings']}"
            )
        try:
            self.model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:  # of another shape
            raise ConfigurationError(
                f"{self._folder} holds a run of another student; name another folder, or delete "
                "this one"
            ) from error
        self.step = state["step"]
        self._write_copy()
        logger.info("goes on from step %d of %s", self.step, self._folder)


def check_same_run(folder: Path, identity: Mapping[str, str]) -> None:
    """Check that the states in a folder's folders, if there are any, are of a run of this identity.

    Args:
        folder: Folder with one folder for each of a run's trainings.
        identity: As for `Trainer`; parts that are not known yet may be missing.

    Raises:
        ConfigurationError: A state is of another run, or cannot be read.
    """
    for path in sorted(folder.glob(f"*/{STATE}")):
        saved = _read_state(path, mapped=True).get("identity", {})
        _check_identity(folder, saved, {**saved, **identity})


def cut_log(path: Path, step: int) -> None:
    """Remove the lines of a log after a step, and incomplete ones that a killed run has left.

    Raises:
        InputError: The file cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        kept = [line for line in lines if _step_of(line) <= step]
        if len(kept) < len(lines):
            new = path.with_suffix(".new")
            new.write_bytes(b"".join(kept))
            new.replace(path)


def _read_state(path: Path, *, mapped: bool = False) -> dict[str, Any]:
    try:
        state: dict[str, Any] = read_pickle(path, mapped=mapped)
    except ModelLoadError as error:
        raise ConfigurationError(
            f"{path}: is no state that can be read; name another folder, or delete it to begin anew"
        ) from error
    return state


def _check_identity(folder: Path, saved: Mapping[str, str], own: Mapping[str, str]) -> None:
    if different := [name for name in {**saved, **own} if saved.get(name) != own.get(name)]:
        raise ConfigurationError(
            f"{folder} holds another run, which differs in the recipe's {', '.join(different)} or "
            "in the files named there; name another output folder, or delete this one"
        )


def _step_of(line: bytes) -> float:
    """Return the step of a log line; infinity for an incomplete line, left by a killed run."""
    try:
        return float(json.loads(line)["step"]) if line.endswith(b"\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf


def _plain(settings: TrainingSettings) -> dict[str, object]:
    return settings.model_dump() | {"dtype": str(settings.dtype)}

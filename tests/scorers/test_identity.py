"""`identity_of`: whether scores of another process are this scorer's too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from checkpoints import write_checkpoint
from hub import COMMITS, serve_hub

from jina_rerank import CachedScorer, FallbackScorer, LocalScorer
from jina_rerank.scorers.base import identity_of
from jina_rerank.testing import FakeScorer


class Own(FallbackScorer):
    """A scorer of a user: it has a model and no fingerprint, and Python's own `repr`."""

    __repr__ = object.__repr__

    def __init__(self, model: str) -> None:
        super().__init__(FakeScorer(), FakeScorer())
        self._model = model

    @property
    def model(self) -> str:
        return self._model


def test_a_scorer_without_a_fingerprint_is_the_same_in_the_next_process() -> None:
    one, again, other = Own("mine"), Own("mine"), Own("another")
    assert repr(one) != repr(again)
    assert identity_of(one) == identity_of(again)
    assert identity_of(one) != identity_of(other)


def test_a_scorer_with_a_fingerprint_or_a_repr_is_told_by_its_settings(
    small_checkpoint: Path,
) -> None:
    short, long = (LocalScorer(small_checkpoint, max_length=most) for most in (64, 128))
    assert identity_of(short) == short.fingerprint != identity_of(long)
    assert identity_of(CachedScorer(short)) != identity_of(CachedScorer(long))


IDENTIFY = """
from jina_rerank import LocalScorer
from jina_rerank.scorers.base import identity_of
print(identity_of(LocalScorer("org/small")))
"""


def test_a_model_that_is_downloaded_now_is_the_same_later(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "hub" / "org" / "small")
    with serve_hub(tmp_path / "hub") as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        first, later = (
            subprocess.run(
                [sys.executable, "-c", IDENTIFY],
                capture_output=True,
                text=True,
                env={**os.environ, **environment},
                timeout=300,
                check=True,
            ).stdout
            for _ in range(2)
        )
    assert COMMITS["main"] in first
    assert first == later

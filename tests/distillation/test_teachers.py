"""Teachers that are models of other libraries, beside what they say of themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import write_bert
from sentence_transformers import SentenceTransformer
from word_vectors import cosine, write_word_vectors

from jina_rerank import (
    ConfigurationError,
    LocalScorer,
    ModelLoadError,
    ScoreRequest,
    ScoringError,
)
from jina_rerank.distillation.models import load_teacher
from jina_rerank.distillation.recipe import TeacherRecipe
from jina_rerank.distillation.teachers import WINDOW_WORDS, EmbeddingTeacher, ScorerTeacher
from jina_rerank.evaluation.encoder import Encoder
from jina_rerank.testing import FakeScorer

WORDS = ["ask", "coffee", "espresso", "moon", "read", "water"]


@pytest.fixture(scope="module")
def word_vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_word_vectors(tmp_path_factory.mktemp("words"), WORDS)


def test_an_embedding_teaches_the_cosine_of_the_nearest_window(word_vectors: Path) -> None:
    teacher = EmbeddingTeacher(str(word_vectors), query_prompt="ask ", passage_prompt="read ")
    long = "moon " * WINDOW_WORDS + "coffee water"
    (scores,) = teacher.score([("coffee", ["coffee", "moon", long])])
    nearest = ("read coffee", "read moon", "read coffee water")
    expected = [cosine(WORDS, "ask coffee", text) for text in nearest]
    assert scores == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_teachers_on_this_machine_compute_in_the_dtype_of_the_training(
    tmp_path: Path, small_checkpoint: Path, dtype: torch.dtype
) -> None:
    """And scores that were made in another one are not taken for theirs."""
    query, passages = "coffee", ["coffee moon read", "moon"]
    teacher = load_teacher(TeacherRecipe("m", model=str(small_checkpoint)), (), dtype)
    named = "float32" if dtype is torch.float32 else "bfloat16"
    scorer = LocalScorer(small_checkpoint, dtype=named)
    (answer,) = scorer.score([ScoreRequest(query, passages)])
    assert teacher.score([(query, passages)]) == [list(answer.logits or ())]
    assert teacher.fingerprint == scorer.fingerprint

    bert = str(write_bert(tmp_path, layers=2))
    embedding = load_teacher(TeacherRecipe("e", embedding=bert), (), dtype)
    library = SentenceTransformer(bert, device="cpu", model_kwargs={"dtype": dtype})
    own, *others = library.encode([query, *passages], normalize_embeddings=True)
    expected = [own @ other for other in others]
    assert embedding.score([(query, passages)])[0] == pytest.approx(expected, abs=1e-5)
    assert str(dtype) in embedding.fingerprint


def test_an_embedding_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        EmbeddingTeacher(str(tmp_path)).score([("q", ["p"])])


def test_without_the_library_the_command_is_named(
    word_vectors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigurationError, match=r"jina-rerank\[distill\]"):
        EmbeddingTeacher(str(word_vectors)).warm_up()


class Lengths:
    """An embedding model of one dimension that remembers what it read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def encode(self, texts: Iterable[str], **_: Any) -> np.ndarray:
        self.read += texts
        return np.array([[float(len(text))] for text in self.read[-len(list(texts)) :]])


def test_a_text_is_read_once_while_it_is_kept_and_no_more_are_kept_than_said() -> None:
    model = Lengths()
    encoder = Encoder(model, "lengths", batch_size=2, kept=2)
    found = encoder.embed(["a", "bb", "a", "ccc"])
    assert {text: vector.tolist() for text, vector in found.items()} == {
        "a": [1.0], "bb": [2.0], "ccc": [3.0],
    }  # fmt: skip
    assert model.read == ["a", "bb", "ccc"]
    assert list(encoder.embed(["ccc", "a"])) == ["ccc", "a"]
    assert model.read == ["a", "bb", "ccc", "a"]
    assert encoder.embed([]) == {}


@pytest.mark.parametrize("error", [RuntimeError, ValueError, IndexError])
def test_a_model_that_fails_is_named(error: type[Exception]) -> None:
    class Failing:
        def encode(self, *_: object, **__: object) -> None:
            raise error("out of memory")

    with pytest.raises(ScoringError, match="failing failed on 1 texts: out of memory"):
        Encoder(Failing(), "failing", batch_size=2).embed(["a"])


def test_nobody_learns_from_a_degraded_answer() -> None:
    class Degraded(FakeScorer):
        def score(self, *args: Any, **kwargs: Any) -> Any:
            return [replace(a, degraded="timed out") for a in super().score(*args, **kwargs)]

    with pytest.raises(ScoringError, match=r"the answer to 'q' is degraded.*timed out"):
        ScorerTeacher(Degraded()).score([("q", ["a", "b"])])

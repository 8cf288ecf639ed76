"""Teachers that are models of other libraries, beside what they say of themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_bert, write_splade
from sentence_transformers import SentenceTransformer, SparseEncoder
from word_vectors import cosine, write_word_vectors

from jina_rerank import (
    ConfigurationError,
    LocalScorer,
    ScoreRequest,
    ScoringError,
)
from jina_rerank.distillation.teachers import (
    TeacherSettings,
    ask,
    check_teacher,
    load_teacher,
)
from jina_rerank.scorers._embedding_call import WINDOW_WORDS
from jina_rerank.scorers.base import identity_of
from jina_rerank.testing import FakeScorer

WORDS = ["ask", "coffee", "espresso", "moon", "read", "water"]


@pytest.fixture(scope="module")
def word_vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_word_vectors(tmp_path_factory.mktemp("words"), WORDS)


def test_an_encoder_teaches_the_cosine_of_the_nearest_window(word_vectors: Path) -> None:
    recipe = TeacherSettings(
        name="words",
        model=f"bi-encoder:{word_vectors}",
        query_prompt="ask ",
        passage_prompt="read ",
    )
    teacher = load_teacher(recipe, (), torch.float32)
    long = "moon " * WINDOW_WORDS + "coffee water"
    (scores,) = ask(teacher, [("coffee", ["coffee", "moon", long])])
    nearest = ("read coffee", "read moon", "read coffee water")
    expected = [cosine(WORDS, "ask coffee", text) for text in nearest]
    assert scores == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_teachers_on_this_machine_compute_in_the_dtype_of_the_training(
    tmp_path: Path, small_checkpoint: Path, dtype: torch.dtype
) -> None:
    """And scores that were made in another one are not taken for theirs."""
    query, passages = "coffee", ["coffee moon read", "moon"]
    teacher = load_teacher(TeacherSettings(name="m", model=str(small_checkpoint)), (), dtype)
    named = "float32" if dtype is torch.float32 else "bfloat16"
    scorer = LocalScorer(small_checkpoint, dtype=named)
    (answer,) = scorer.score([ScoreRequest(query, passages)])
    assert ask(teacher, [(query, passages)]) == [list(answer.logits or ())]
    assert identity_of(teacher) == scorer.fingerprint

    bert = str(write_bert(tmp_path, layers=2))
    encoder = load_teacher(TeacherSettings(name="e", model=f"bi-encoder:{bert}"), (), dtype)
    library = SentenceTransformer(bert, device="cpu", model_kwargs={"dtype": dtype})
    (own,), others = (
        library.encode(texts, normalize_embeddings=True) for texts in ([query], passages)
    )
    assert ask(encoder, [(query, passages)])[0] == pytest.approx(list(others @ own), abs=1e-5)
    assert named in identity_of(encoder)


def test_a_sparse_encoder_teaches_in_the_dtype_of_the_training(tmp_path: Path) -> None:
    folder = write_splade(tmp_path)
    teacher = load_teacher(
        TeacherSettings(name="s", model=f"sparse-encoder:{folder}"), (), torch.float32
    )
    query, passages = "what is panda?", ["the giant panda is a bear", "coffee"]
    library = SparseEncoder(str(folder), device="cpu")
    (own,), others = (library.encode(texts).to_dense() for texts in ([query], passages))
    assert ask(teacher, [(query, passages)])[0] == pytest.approx((others @ own).tolist(), rel=1e-4)
    assert "float32" in identity_of(teacher)


def test_bm25_counts_words_in_all_passages() -> None:
    passages = ["coffee jam", "coffee moon", "coffee jam"]
    teacher = load_teacher(TeacherSettings(name="b", model="bm25"), passages, torch.float32)
    ((rare, common, none),) = ask(teacher, [("coffee moon", ["moon", "coffee", "jam"])])
    assert rare > common > none == 0


def test_a_teacher_that_is_not_there_is_a_field_to_change(tmp_path: Path) -> None:
    for model in (f"bi-encoder:{tmp_path}", f"sparse-encoder:{tmp_path}", str(tmp_path)):
        with pytest.raises(ConfigurationError, match=r"^teacher t\.model: .*name a folder"):
            check_teacher(TeacherSettings(name="t", model=model), torch.float32)


def test_nobody_learns_from_a_degraded_answer() -> None:
    class Degraded(FakeScorer):
        def score(self, *args: Any, **kwargs: Any) -> Any:
            return [replace(a, degraded="timed out") for a in super().score(*args, **kwargs)]

    with pytest.raises(ScoringError, match=r"the answer to 'q' is degraded.*timed out"):
        ask(Degraded(), [("q", ["a", "b"])])

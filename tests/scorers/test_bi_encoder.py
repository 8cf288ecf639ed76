"""Bi-encoders as scorers, beside what sentence-transformers gives by itself."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import wordpiece_tokenizer, write_bert
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from word_vectors import cosine, write_word_vectors

from jina_rerank import (
    BiEncoderScorer,
    Bm25Scorer,
    ConfigurationError,
    InputError,
    ModelLoadError,
    Progress,
    Reranker,
    Scorer,
    ScoreRequest,
    ScoringError,
)
from jina_rerank.scorers._embedding_call import WINDOW_WORDS
from jina_rerank.scorers.base import CacheableScorer
from jina_rerank.scorers.prompts import Prompts, prompts_of
from jina_rerank.scorers.text_encoder import Encoder, Text

WORDS = ["ask", "coffee", "espresso", "moon", "read", "water"]
BGE = "Represent this sentence for "
QUERY = "what is a panda?"
TEXTS = ["the giant panda is a bear", "paris is a city in france " * 9, "", "a bear"]


@pytest.fixture(scope="module")
def word_vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_word_vectors(tmp_path_factory.mktemp("words"), WORDS)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder with prompts of its own, as sentence-transformers saves one."""
    plain = write_bert(tmp_path_factory.mktemp("plain"), layers=2)
    PreTrainedTokenizerFast(
        tokenizer_object=wordpiece_tokenizer(), pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(plain)
    folder = tmp_path_factory.mktemp("models") / "bert"
    prompts = {"query": "question: ", "passage": "answer: "}
    SentenceTransformer(str(plain), device="cpu", prompts=prompts).save(str(folder))
    return folder


def score(scorer: BiEncoderScorer, query: str, documents: Sequence[str]) -> list[float]:
    (response,) = scorer.score([ScoreRequest(query, documents)])
    return list(response.scores)


def cosines(folder: Path, query: str, documents: Sequence[str]) -> list[float]:
    """Embed with the library for texts that already hold their prompts."""
    library = SentenceTransformer(str(folder), device="cpu")
    own, *others = library.encode(
        [query, *documents], prompt="", batch_size=1, normalize_embeddings=True
    )
    return [float(own @ other) for other in others]


def test_the_score_is_the_cosine_with_the_models_own_prompts(bert: Path) -> None:
    expected = cosines(bert, f"question: {QUERY}", [f"answer: {text}" for text in TEXTS])
    assert score(BiEncoderScorer(bert), QUERY, TEXTS) == pytest.approx(expected, abs=1e-5)
    without = cosines(bert, QUERY, TEXTS)
    plain = BiEncoderScorer(bert, query_prompt="", passage_prompt="")
    assert score(plain, QUERY, TEXTS) == pytest.approx(without, abs=1e-5)
    other = BiEncoderScorer(bert, query_prompt="panda ", passage_prompt="bear ")
    given = cosines(bert, f"panda {QUERY}", [f"bear {text}" for text in TEXTS])
    assert score(other, QUERY, TEXTS) == pytest.approx(given, abs=1e-5)
    for one, another in ((expected, without), (expected, given), (without, given)):
        assert one != pytest.approx(another, abs=1e-4), "prompts make a difference here"


@pytest.mark.parametrize(
    ("name", "own", "expected"),
    [
        ("intfloat/e5-small-v2", {}, Prompts("query: ", "passage: ")),
        ("models/multilingual-e5-base/", {"query": ""}, Prompts("query: ", "passage: ")),
        ("BAAI/bge-small-en-v1.5", {}, Prompts(f"{BGE}searching relevant passages: ")),
        ("intfloat/e5-small-v2", {"query": "q: "}, Prompts("q: ")),
        ("BAAI/bge-m3", {}, Prompts()),
        ("intfloat/e5-mistral-7b-instruct", {"query": "x: "}, Prompts("x: ")),
        ("m", {"query": None, "corpus": "c: "}, Prompts("", "c: ")),
        ("m", {"passage": "p: ", "document": "d: "}, Prompts("", "d: ")),
        ("sentence-transformers/all-MiniLM-L6-v2", {}, Prompts()),
    ],
)  # fmt: skip
def test_prompts_are_the_models_own_or_those_of_its_card(
    name: str, own: dict[str, str | None], expected: Prompts
) -> None:
    assert prompts_of(name, own) == expected
    assert prompts_of(name, own, query="", passage="x") == Prompts("", "x")


def test_an_e5_that_tells_no_prompts_gets_them_all_the_same(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "e5-small"
    shutil.copytree(bert, folder)
    config = folder / "config_sentence_transformers.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "prompts": {}}))
    expected = cosines(folder, f"query: {QUERY}", [f"passage: {text}" for text in TEXTS])
    assert score(BiEncoderScorer(folder), QUERY, TEXTS) == pytest.approx(expected, abs=1e-5)


def test_a_long_text_is_cut_and_that_is_told(bert: Path) -> None:
    tokenizer = Tokenizer.from_file(str(bert / "tokenizer.json"))
    tokenizer.no_padding()
    tokens = [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in TEXTS]
    room = max(tokens[0], tokens[3])
    assert room < tokens[1]
    scorer = BiEncoderScorer(bert, max_length=room + 2, query_prompt="", passage_prompt="")
    (response,) = scorer.score([ScoreRequest("a bear", TEXTS)])
    library = SentenceTransformer(str(bert), device="cpu")
    library.max_seq_length = room + 2
    own, *others = library.encode(["a bear", *TEXTS], prompt="", normalize_embeddings=True)
    assert response.scores == pytest.approx([float(own @ other) for other in others], abs=1e-5)
    assert response.truncated_tokens == [0, tokens[1] - room, 0, 0]
    assert response.tokens == [tokens[0], room, 0, tokens[3]]
    assert response.usage.truncated_documents == 1
    assert response.usage.truncated_query_tokens == 0
    refusing = BiEncoderScorer(
        bert, max_length=room + 2, query_prompt="", passage_prompt="", long_documents="error"
    )
    with pytest.raises(InputError, match=rf"documents\[1\]: has {tokens[1] - room} tokens more"):
        refusing.score([ScoreRequest("a bear", TEXTS)])


def test_the_nearest_window_of_a_long_document_counts(word_vectors: Path) -> None:
    scorer = BiEncoderScorer(
        word_vectors, query_prompt="ask ", passage_prompt="read ", long_documents="chunk"
    )
    long = "moon " * WINDOW_WORDS + "coffee water"
    nearest = ("read coffee", "read moon", "read coffee water")
    expected = [cosine(WORDS, "ask coffee", text) for text in nearest]
    assert score(scorer, "coffee", ["coffee", "moon", long]) == pytest.approx(expected, abs=1e-5)


def test_a_request_says_what_to_do_with_its_own_long_documents(word_vectors: Path) -> None:
    long = "moon " * WINDOW_WORDS + "coffee water"
    whole, windows = cosine(WORDS, "coffee", long), cosine(WORDS, "coffee", "coffee water")
    requests = [ScoreRequest("coffee", [long], long_documents=mode) for mode in (None, "chunk")]
    first, second = BiEncoderScorer(word_vectors).score(requests)
    assert list(first.scores) == pytest.approx([whole], abs=1e-5)
    assert list(second.scores) == pytest.approx([windows], abs=1e-5)
    for scorer in (BiEncoderScorer(word_vectors), Bm25Scorer([long])):
        with pytest.raises(InputError, match="max_document_tokens"):
            scorer.score([ScoreRequest("coffee", [long], max_document_tokens=3)])


def test_windows_fit_what_a_model_reads(bert: Path) -> None:
    """These words have up to four tokens."""
    text = "paris is a city in france " * 9
    scorer = BiEncoderScorer(
        bert, max_length=34, query_prompt="", passage_prompt="", long_documents="chunk"
    )
    words = text.split()
    windows = [" ".join(words[start : start + 22]) for start in range(0, len(words), 22)]
    (response,) = scorer.score([ScoreRequest("a bear", [text])])
    library = SentenceTransformer(str(bert), device="cpu")
    library.max_seq_length = 34
    own, *others = library.encode(["a bear", *windows], prompt="", normalize_embeddings=True)
    assert list(response.scores) == pytest.approx([max(float(own @ o) for o in others)], abs=1e-5)
    assert len(windows) == 3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_computes_in_the_dtype_that_is_asked_for(bert: Path, dtype: str) -> None:
    library = SentenceTransformer(
        str(bert), device="cpu", model_kwargs={"dtype": getattr(torch, dtype)}
    )
    own, others = (
        library.encode(texts, prompt="", normalize_embeddings=True) for texts in ([QUERY], TEXTS)
    )
    scorer = BiEncoderScorer(bert, dtype=dtype, query_prompt="", passage_prompt="")
    assert score(scorer, QUERY, TEXTS) == pytest.approx(list(others @ own[0]), abs=1e-5)
    assert dtype in scorer.fingerprint


def test_it_is_a_scorer_like_others(bert: Path) -> None:
    scorer = BiEncoderScorer(bert)
    assert isinstance(scorer, Scorer)
    assert isinstance(scorer, CacheableScorer)
    requests = [ScoreRequest(QUERY, TEXTS), ScoreRequest("france", TEXTS[:2])]
    told: list[Progress] = []
    expected = [list(one.scores) for one in scorer.score(requests, told.append)]
    assert told[-1].remaining_tokens == 0 < told[0].remaining_tokens
    again = pickle.loads(pickle.dumps(scorer))
    found = asyncio.run(again.ascore(requests))
    assert [list(one.scores) for one in found] == expected
    assert Reranker(scorer).rank(QUERY, TEXTS)[0].score == max(expected[0])
    scorer.close()
    with pytest.raises(ConfigurationError, match="is closed; make a new one"):
        scorer.score(requests)


def test_its_fingerprint_tells_files_by_what_they_hold(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(bert, folder)
    plain = BiEncoderScorer(folder).fingerprint
    for file in folder.rglob("*"):
        os.utime(file, (1, 1))
    assert BiEncoderScorer(folder).fingerprint == plain, "installed again, and the same"
    assert BiEncoderScorer(folder, max_length=16).fingerprint != plain
    assert BiEncoderScorer(folder, query_prompt="").fingerprint != plain
    pooling = next(folder.rglob("1_Pooling/config.json"))
    pooling.write_text(pooling.read_text() + " ")
    assert BiEncoderScorer(folder).fingerprint != plain


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        BiEncoderScorer(tmp_path).warm_up()


def test_without_the_library_the_command_is_named(
    word_vectors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigurationError, match=r"jina-rerank\[cross-encoder\]"):
        BiEncoderScorer(word_vectors, query_prompt="not loaded before ").warm_up()


class Lengths(Encoder[list[float]]):
    """An encoder of one dimension that remembers what it read."""

    def __init__(self, kept: int = 100) -> None:
        super().__init__(torch.nn.Module(), "lengths", Prompts(), "cpu", None, kept=kept)
        self.read: list[str] = []

    def compare(self, query: list[float], passages: Sequence[list[float]]) -> list[float]:
        return [float(np.dot(query, one)) for one in passages]

    def _encode(self, texts: list[str], prompt: str, *, is_query: bool) -> list[list[float]]:
        if "fail" in texts:
            raise RuntimeError("out of memory")
        self.read += texts
        return [[float(len(text))] for text in texts]


def test_no_more_vectors_are_kept_than_said() -> None:
    encoder = Lengths(kept=2)
    texts = [Text(text, is_query=False) for text in ("a", "bb", "ccc")]
    assert list(encoder.embed(texts).values()) == [[1.0], [2.0], [3.0]]
    assert encoder.known(texts) == {texts[1]: [2.0], texts[2]: [3.0]}


def test_a_query_and_a_passage_of_the_same_text_have_vectors_of_their_own() -> None:
    encoder = Lengths()
    encoder.embed([Text("a", is_query=True)])
    assert not encoder.known([Text("a", is_query=False)])


def test_a_model_that_fails_is_named() -> None:
    with pytest.raises(ScoringError, match="lengths failed on 1 texts: out of memory"):
        Lengths().embed([Text("fail", is_query=False)])


def test_a_vector_without_numbers_is_an_error_and_no_score(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "nan"
    shutil.copytree(bert, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    weights[name][:] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ScoringError, match="nan has no number for a document"):
        BiEncoderScorer(folder).score([ScoreRequest(QUERY, TEXTS)])


def test_an_encoder_that_is_not_in_the_weights_is_refused(bert: Path, tmp_path: Path) -> None:
    """As of embedding models with code of their own: transformers would make it at random."""
    folder = shutil.copytree(bert, tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    renamed = {name.replace("attention.self", "mixer"): own for name, own in state.items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match=r"0\.attention\.self\.query\.weight and 11 more"):
        BiEncoderScorer(folder).warm_up()

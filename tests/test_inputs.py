"""Every kind of bad input: which error, which argument, which fix."""

import email.message
import json
import math
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jina_rerank import (
    CachedScorer,
    ConfigurationError,
    FallbackScorer,
    InputError,
    LocalScorer,
    RemoteScorer,
    Reranker,
    RetrievalOrder,
)
from jina_rerank.testing import FakeScorer

RERANKER = Reranker(FakeScorer())
TABLE = pd.DataFrame({"id": ["a", "b"], "text": ["q", "other"]})
HEADERS = email.message.Message()
HEADERS["subject"] = "q"


@pytest.mark.parametrize(
    ("query", "documents", "argument", "fix"),
    [
        (None, ["a"], "query", "must be a string, not NoneType; pass the question"),
        ("", ["a"], "query", "is blank; pass the question"),
        (" \n\t\u2003", ["a"], "query", "is blank"),
        (7, ["a"], "query", "must be a string, not int"),
        (b"a", ["a"], "query", "must be a string, not bytes"),
        (["a"], ["a"], "query", "must be a string, not list"),
        ("a\0b", ["a"], "query", "NUL character at 1.*replace"),
        ("a\ud800", ["a"], "query", "lone surrogate at 1.*encode"),
        ("q", "one document", "documents", r"not one string; for one document pass \[document\]"),
        ("q", b"bytes", "documents", "not one string"),
        ("q", None, "documents", "must be a list of strings, not NoneType"),
        ("q", 3, "documents", "must be a list of strings, not int"),
        ("q", {"a": "b"}, "documents", "must be a list of strings, not dict"),
        ("q", {"a", "b"}, "documents", "must be a list of strings, not set"),
        ("q", bytearray(b"a"), "documents", "not one string"),
        ("q", memoryview(b"a"), "documents", "not one string"),
        ("q", frozenset("a"), "documents", "not frozenset, which has no order.*pass a list"),
        ("q", MappingProxyType({"a": "b"}), "documents", "only the keys would be read; pass a"),
        ("q", HEADERS, "documents", "not Message, of which only the keys would be read"),
        ("q", TABLE, "documents", 'not DataFrame; pass the column.*list\\(table\\["text"\\]\\)'),
        ("q", TABLE[["text"]], "documents", "not DataFrame; pass the column"),
        ("q", pa.table({"text": ["a"]}), "documents", "not Table; pass the column"),
        ("q", np.array("a"), "documents", "must be a list of strings, not ndarray"),
        ("q", np.array([["a", "b"]]), r"documents[0]", "must be a string, not ndarray"),
        ("q", ["a", None], r"documents[1]", "must be a string, not NoneType; leave it out"),
        ("q", ["a", 1.5], r"documents[1]", "must be a string, not float"),
        ("q", [{"text": "a"}], r"documents[0]", "must be a string, not dict"),
        ("q", ["a", "b\0"], r"documents[1]", "NUL character at 1"),
        ("q", ["\udfff"], r"documents[0]", "lone surrogate at 0"),
        ("q", ["a", "x" * 10_000_000], r"documents[1]", "10,000,000 characters.*split it first"),
        ("q", [""] * 100_000, "documents", "nothing to rank: all 100,000 are blank"),
        ("q", [" ", "\n"], "documents", "nothing to rank: all 2 are blank"),
    ],
)
async def test_text_that_cannot_be_used(
    query: Any, documents: Any, argument: str, fix: str
) -> None:
    with pytest.raises(InputError, match=fix) as caught:
        RERANKER.rank(query, documents)
    assert caught.value.argument == argument
    with pytest.raises(InputError, match=fix):
        await RERANKER.arank(query, documents)
    with pytest.raises(InputError, match=fix) as caught:
        RERANKER.rank_many([("q", ["a"]), (query, documents)])
    assert caught.value.argument == f"pairs[1].{argument}"


@pytest.mark.parametrize(
    ("top_n", "fix"),
    [
        (0, "must be at least 1, or None for all, not 0"),
        (-1, "at least 1"),
        (True, "whole number, or None for all, not bool"),
        (2.0, "not float"),
        ("3", "not str"),
        (np.int64(0), "must be at least 1, or None for all, not 0"),
        (np.float32(1), "not float32"),
        (np.bool_(True), "not bool"),
        pytest.param(-(10**5000), "must be at least 1", id="beyond 4,300 digits"),
    ],
)
def test_top_n(top_n: Any, fix: str) -> None:
    with pytest.raises(InputError, match=fix) as caught:
        RERANKER.rank("q", ["a"], top_n=top_n)
    assert caught.value.argument == "top_n"


@pytest.mark.parametrize(
    ("threshold", "fix"),
    [
        (math.nan, "NaN"),
        (np.float16("nan"), "NaN"),
        ("0.5", "str"),
        (True, "bool"),
        (np.bool_(True), "bool"),
        (1j, "complex"),
        (10**400, "is beyond all scores; pass a number or None"),
        (-(10**400), "is beyond all scores"),
        (Fraction(10**400), "is beyond all scores"),
    ],
)
def test_threshold(threshold: Any, fix: str) -> None:
    with pytest.raises(InputError, match=fix) as caught:
        RERANKER.rank("q", ["a"], threshold=threshold)
    assert caught.value.argument == "threshold"


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("ab", "list of"),
        (None, "list of"),
        ([("q",)], r"pairs\[0\]"),
        (["qd"], r"pairs\[0\]"),
        (TABLE, "pairs: must be a list of .* not DataFrame"),
        ({("q", ("a",)): 1}, "pairs: must be a list of .* not dict"),
    ],
)
def test_pairs(pairs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RERANKER.rank_many(pairs)


def test_input_errors_are_value_errors() -> None:
    with pytest.raises(ValueError, match="top_n"):
        RERANKER.rank("q", ["a"], top_n=0)


def test_a_blank_document_among_others_is_ranked() -> None:
    ranking = RERANKER.rank("q", ["", "q"])
    assert [hit.index for hit in ranking] == [1, 0]


@pytest.mark.parametrize(
    "column",
    [
        TABLE["text"],
        TABLE["text"].to_numpy(),
        np.array(["q", "other"]),
        pd.Series(["q", "other"], index=["columns", "keys"]),
        {"a": "q", "b": "other"}.values(),
        (text for text in ["q", "other"]),
        map(str, ["q", "other"]),
    ],
    ids=lambda column: type(column).__name__,
)
def test_a_column_of_texts_is_ranked_whatever_holds_it(column: Any) -> None:
    assert [hit.text for hit in RERANKER.rank("q", column)] == ["q", "other"]


@pytest.mark.parametrize("one", [np.int64(1), np.uint8(1), np.int16(1)])
@pytest.mark.parametrize("half", [np.float32(0.5), np.float16(0.5), Fraction(1, 2), Decimal("0.5")])
def test_other_librarys_numbers_are_numbers(one: Any, half: Any) -> None:
    # A document's score is 1.0 if it is the query, otherwise less than a half.
    assert [hit.text for hit in RERANKER.rank("q", ["a", "q", "q"], top_n=one)] == ["q"]
    assert [hit.index for hit in RERANKER.rank("q", ["a", "q", "q"], threshold=half)] == [1, 2]


def test_scorers_settings_may_be_numpys_numbers_and_are_kept_as_pythons() -> None:
    local = LocalScorer(max_length=np.int64(64))  # type: ignore[arg-type]
    assert json.loads(local.fingerprint)["max_length"] == 64
    remote = RemoteScorer(
        base_url="http://localhost",
        timeout=np.float32(2.5),  # type: ignore[arg-type]
        max_retries=np.int64(0),  # type: ignore[arg-type]
        max_concurrency=np.uint8(1),  # type: ignore[arg-type]
        max_doc_length=np.int32(7),  # type: ignore[arg-type]
    )
    assert "timeout=2.5" in repr(remote)
    assert 7 in json.loads(remote.fingerprint)
    cached = CachedScorer(local, max_entries=np.int64(9))  # type: ignore[arg-type]
    assert repr(cached).endswith("max_entries=9)")
    FallbackScorer(remote, RetrievalOrder(), cooldown=np.float64(1))


@pytest.mark.parametrize(
    "settings",
    [
        {"timeout": 10**400},
        {"timeout": np.float32("inf")},
        {"max_retries": np.int64(-1)},
        {"max_tokens": np.bool_(True)},
        pytest.param({"max_documents": -(10**5000)}, id="beyond 4,300 digits"),
        {"connect_timeout": np.float64(0)},
    ],
)
def test_settings_out_of_range_are_configuration_errors_however_large(settings: Any) -> None:
    (name,) = settings
    with pytest.raises(ConfigurationError, match=f"^{name} must be a"):
        RemoteScorer(base_url="http://localhost", **settings)


def test_the_longest_text_that_is_taken() -> None:
    assert len(RERANKER.rank("q", ["x" * 2_000_000])) == 1


@pytest.mark.parametrize("model", [7, object(), ["a"]])
def test_model(model: Any) -> None:
    with pytest.raises(ConfigurationError, match="hub id, a folder or a scorer"):
        Reranker(model)


@pytest.mark.parametrize(
    ("scorer", "fix"),
    [
        (LocalScorer, r"is the class LocalScorer; write LocalScorer\(\.\.\.\)"),
        (FakeScorer, r"is the class FakeScorer; write FakeScorer\(\.\.\.\)"),
        (Reranker, "is the class Reranker"),
        (RERANKER, r"is a Reranker; pass its \.scorer"),
    ],
)
@pytest.mark.parametrize(
    ("build", "argument"),
    [
        (Reranker, "model"),
        (CachedScorer, "scorer"),
        (lambda scorer: FallbackScorer(scorer, FakeScorer()), "primary"),
        (lambda scorer: FallbackScorer(FakeScorer(), scorer), "secondary"),
        (lambda scorer: FallbackScorer(FakeScorer(), FakeScorer(), scorer), r"others\[0\]"),
    ],
)
def test_what_only_looks_like_a_scorer_is_refused(
    build: Any, argument: str, scorer: Any, fix: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{argument} {fix}"):
        build(scorer)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "float16"}, "dtype must be one of"),
        ({"device": 3}, "device must be a string"),
        ({"model": 3}, "model must be a hub id or a folder"),
        ({"max_length": 15}, "max_length"),
        ({"max_length": True}, "max_length"),
        ({"long_documents": "drop"}, "long_documents must be one of"),
        ({"revision": "v1"}, "the embedded model has none"),
        ({"model": "a/b", "revision": 5}, "revision must be a string, not int"),
        ({"model": "a/b", "revision": " "}, "revision is blank"),
    ],
)
def test_local_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        LocalScorer(**settings)


def test_an_unknown_device_is_refused_at_load() -> None:
    with pytest.raises(ConfigurationError, match="device 'abacus' cannot be used"):
        LocalScorer(device="abacus").warm_up()

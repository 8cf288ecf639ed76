"""Every kind of bad input: which error, which argument, which fix."""

import math
from typing import Any

import pytest

from jina_rerank import ConfigurationError, InputError, LocalScorer, Reranker
from jina_rerank.testing import FakeScorer

RERANKER = Reranker(FakeScorer())


@pytest.mark.parametrize(
    ("query", "documents", "argument", "fix"),
    [
        (None, ["a"], "query", "must be a string, not NoneType"),
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
        (True, "whole number or None for all, not bool"),
        (2.0, "not float"),
        ("3", "not str"),
    ],
)
def test_top_n(top_n: Any, fix: str) -> None:
    with pytest.raises(InputError, match=fix) as caught:
        RERANKER.rank("q", ["a"], top_n=top_n)
    assert caught.value.argument == "top_n"


@pytest.mark.parametrize(("threshold", "fix"), [(math.nan, "NaN"), ("0.5", "str"), (True, "bool")])
def test_threshold(threshold: Any, fix: str) -> None:
    with pytest.raises(InputError, match=fix) as caught:
        RERANKER.rank("q", ["a"], threshold=threshold)
    assert caught.value.argument == "threshold"


@pytest.mark.parametrize(
    ("pairs", "message"),
    [("ab", "list of"), (None, "list of"), ([("q",)], r"pairs\[0\]"), (["qd"], r"pairs\[0\]")],
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


def test_the_longest_text_that_is_taken() -> None:
    assert len(RERANKER.rank("q", ["x" * 2_000_000])) == 1


@pytest.mark.parametrize("model", [7, object(), ["a"]])
def test_model(model: Any) -> None:
    with pytest.raises(ConfigurationError, match="hub id, a folder or a scorer"):
        Reranker(model)


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
    ],
)
def test_local_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        LocalScorer(**settings)


def test_an_unknown_device_is_refused_at_load() -> None:
    with pytest.raises(ConfigurationError, match="device 'abacus' cannot be used"):
        LocalScorer(device="abacus").warm_up()

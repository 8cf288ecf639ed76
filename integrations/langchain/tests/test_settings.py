"""Construction, secrets, copies, serialization and the life of the model."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_core.load import dumps
from pydantic import SecretStr, ValidationError
from pydantic_core import PydanticSerializationError

from jina_rerank import ConfigurationError, Reranker
from jina_rerank.testing import FakeScorer
from langchain_jina_rerank import JinaRerank

KEY = "jina_secret-0123456789"

ALL_SETTINGS = {
    "model": "jinaai/jina-reranker-v1-tiny-en",
    "top_n": 3,
    "threshold": 0.25,
    "metadata_fields": ["title", "page"],
    "dtype": "float32",
    "device": "cpu",
    "max_length": 512,
    "long_documents": "chunk",
    "revision": "main",
}


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch):
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    monkeypatch.delenv("JINAAI_API_KEY", raising=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"top_n": 0},
        {"top_n": -1},
        {"top_n": True},
        {"top_n": 2.0},
        {"threshold": float("nan")},
        {"threshold": "0.5"},
        {"metadata_fields": "title"},
        {"dtype": "float16"},
        {"long_documents": "drop"},
        {"backend": "cloud"},
        {"model": 7},
        {"reranker": "jinaai/jina-reranker-v1-tiny-en"},
        {"topn": 3},
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_refused_at_construction(settings):
    (name,) = settings
    with pytest.raises(ValidationError) as caught:
        JinaRerank(**settings)
    assert {error["loc"][0] for error in caught.value.errors()} == {name}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"max_length": 4}, "max_length"),
        ({"revision": "main"}, "revision"),
        ({"api_key": KEY}, "api_key"),
        ({"base_url": "https://example.org"}, "base_url"),
        ({"backend": "remote"}, "backend"),
        ({"backend": "remote", "api_key": KEY}, "backend"),
    ],
    ids=str,
)
def test_settings_that_do_not_go_together_are_refused_at_construction(settings, named):
    with pytest.raises(ConfigurationError, match=named) as caught:
        JinaRerank(**settings)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "setting",
    [
        {"model": "somewhere"},
        {"backend": "remote"},
        {"api_key": KEY},
        {"base_url": "https://example.org"},
        {"dtype": "float32"},
        {"device": "cpu"},
        {"max_length": 512},
        {"long_documents": "chunk"},
        {"revision": "main"},
    ],
    ids=str,
)
def test_a_reranker_of_ones_own_takes_no_settings_of_a_model(setting):
    (name,) = setting
    with pytest.raises(ConfigurationError, match=f"^{name} cannot be combined with reranker"):
        JinaRerank(reranker=Reranker(FakeScorer()), **setting)


def test_a_reranker_of_ones_own_takes_the_other_settings():
    reranker = Reranker(FakeScorer())
    compressor = JinaRerank(reranker=reranker, top_n=2, threshold=0.1, metadata_fields=["title"])
    assert compressor.reranker is reranker


def test_settings_do_not_change_under_those_who_share_the_compressor():
    compressor = JinaRerank(top_n=3)
    with pytest.raises(ValidationError, match="frozen"):
        compressor.top_n = 5
    assert compressor.top_n == 3


def test_a_model_folder_may_be_a_path():
    assert JinaRerank(model=Path("models/tiny")).model == Path("models/tiny")


@pytest.mark.parametrize("name", ["JINA_API_KEY", "JINAAI_API_KEY"])
def test_a_key_of_the_environment_is_found_and_does_not_disturb_a_local_model(monkeypatch, name):
    monkeypatch.setenv(name, KEY)
    compressor = JinaRerank()
    assert compressor.api_key == SecretStr(KEY)
    assert JinaRerank(reranker=Reranker(FakeScorer())).api_key == SecretStr(KEY)


def test_of_two_keys_in_the_environment_that_of_jina_api_key_counts(monkeypatch):
    monkeypatch.setenv("JINAAI_API_KEY", "the other")
    monkeypatch.setenv("JINA_API_KEY", KEY)
    assert JinaRerank().api_key == SecretStr(KEY)


def test_no_form_of_the_compressor_shows_the_key(monkeypatch, retriever):
    monkeypatch.setenv("JINA_API_KEY", KEY)
    compressor = JinaRerank()
    around = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=retriever)
    shown = [
        repr(compressor),
        str(compressor),
        repr(compressor.model_dump()),
        compressor.model_dump_json(),
        dumps(compressor),
        repr(around),
        dumps(around),
    ]
    assert [form for form in shown if KEY in form] == []
    assert "api_key" not in compressor.model_dump()


@pytest.mark.parametrize("settings", [{"top_n": KEY}, {"apikey": KEY}, {"api_key": [KEY]}], ids=len)
def test_no_error_shows_a_key_in_the_wrong_place(settings):
    with pytest.raises(ValidationError) as caught:
        JinaRerank(**settings)
    assert KEY not in str(caught.value)
    assert KEY not in repr(caught.value)


@pytest.mark.parametrize("settings", [{}, ALL_SETTINGS], ids=["defaults", "all"])
def test_settings_survive_a_dump_and_the_constructor(monkeypatch, settings):
    monkeypatch.setenv("JINA_API_KEY", KEY)
    compressor = JinaRerank(**settings)
    assert JinaRerank(**compressor.model_dump()) == compressor
    assert JinaRerank.model_validate_json(compressor.model_dump_json()) == compressor
    assert compressor.model_dump(mode="json", include=set(settings)) == settings


def test_every_setting_is_in_the_dump_or_left_out_on_purpose():
    left_out = set(JinaRerank.model_fields) - set(JinaRerank().model_dump())
    assert left_out == {"api_key"}


def test_a_reranker_of_ones_own_cannot_be_written_as_json():
    compressor = JinaRerank(reranker=Reranker(FakeScorer()))
    with pytest.raises(PydanticSerializationError, match="built by hand cannot be written as JSON"):
        compressor.model_dump_json()
    assert JinaRerank(**compressor.model_dump()) == compressor


def test_pickling_keeps_the_settings_and_the_reranker():
    assert pickle.loads(pickle.dumps(JinaRerank(**ALL_SETTINGS))) == JinaRerank(**ALL_SETTINGS)
    shared = JinaRerank(reranker=Reranker(FakeScorer()), top_n=1)
    thawed = pickle.loads(pickle.dumps(shared))
    documents = [Document(page_content="a"), Document(page_content="b")]
    assert thawed.compress_documents(documents, "b") == shared.compress_documents(documents, "b")


def test_a_pickle_holds_no_key_and_finds_that_of_its_new_environment(monkeypatch):
    monkeypatch.setenv("JINA_API_KEY", "jina_here")
    stored = pickle.dumps(JinaRerank(top_n=2))
    assert b"jina_here" not in stored
    monkeypatch.setenv("JINA_API_KEY", "jina_there")
    thawed = pickle.loads(stored)
    assert thawed.api_key == SecretStr("jina_there")
    assert thawed.top_n == 2


def test_a_compressor_that_has_loaded_its_model_still_pickles():
    compressor = JinaRerank(top_n=1)
    documents = [Document(page_content="Rome is in Italy."), Document(page_content="It rains.")]
    best = compressor.compress_documents(documents, "Where is Rome?")
    thawed = pickle.loads(pickle.dumps(compressor))
    assert thawed.compress_documents(documents, "Where is Rome?") == best


def test_a_copy_has_the_settings_it_was_given():
    compressor = JinaRerank(top_n=3, max_length=512)
    copied = compressor.model_copy(update={"top_n": 5, "dtype": "float32"})
    assert copied == JinaRerank(top_n=5, max_length=512, dtype="float32")
    assert compressor.top_n == 3
    assert compressor.model_copy(deep=True) == copy.copy(compressor) == compressor


@pytest.mark.parametrize("update", [{"top_n": 0}, {"topn": 3}, {"long_documents": "drop"}], ids=str)
def test_a_copy_is_checked_like_any_other(update):
    with pytest.raises(ValidationError):
        JinaRerank().model_copy(update=update)


def test_a_copy_with_another_model_uses_that_model():
    first, second = Reranker(FakeScorer(lambda *_: 0.1)), Reranker(FakeScorer(lambda *_: 0.9))
    copied = JinaRerank(reranker=first).model_copy(update={"reranker": second})
    (found,) = copied.compress_documents([Document(page_content="a")], "a")
    assert found.metadata["relevance_score"] == 0.9


def test_closing_a_copy_leaves_the_original_open():
    documents = [Document(page_content="Rome is in Italy."), Document(page_content="It rains.")]
    compressor = JinaRerank()
    compressor.warm_up()
    compressor.model_copy(update={"top_n": 1}).close()
    assert len(compressor.compress_documents(documents, "Where is Rome?")) == 2


async def test_close_ends_a_reranker_built_from_settings(documents):
    for_sync, for_async = JinaRerank(), JinaRerank()
    for_sync.close()
    await for_async.aclose()
    for compressor in (for_sync, for_async):
        with pytest.raises(ConfigurationError, match="closed"):
            compressor.compress_documents(documents, "coffee")


async def test_close_leaves_a_reranker_of_ones_own_open(documents):
    scorer = FakeScorer()
    compressor = JinaRerank(reranker=Reranker(scorer))
    compressor.close()
    await compressor.aclose()
    assert not scorer.closed
    assert len(compressor.compress_documents(documents, "coffee")) == 3


async def test_warming_up_warms_up_the_scorer():
    scorer = FakeScorer()
    compressor = JinaRerank(reranker=Reranker(scorer))
    assert scorer.warm_ups == 0
    compressor.warm_up()
    await compressor.awarm_up()
    assert scorer.warm_ups == 2


def test_neither_import_nor_construction_nor_an_empty_call_loads_a_model():
    program = """
import asyncio, sys
from langchain_jina_rerank import JinaRerank
compressor = JinaRerank(top_n=3)
assert compressor.compress_documents([], "query") == []
assert asyncio.run(compressor.acompress_documents([], "query")) == []
assert not {"torch", "transformers", "langchain_classic"} & set(sys.modules)
compressor.warm_up()
assert "torch" in sys.modules and "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)

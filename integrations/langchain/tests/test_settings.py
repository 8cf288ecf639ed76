"""Construction, secrets, copies, serialization and the life of the model."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from langchain_core.documents import Document
from pydantic import SecretStr, ValidationError
from pydantic_core import PydanticSerializationError

from jina_rerank import AuthenticationError, ConfigurationError, LocalScorer, Reranker
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


REMOTE = {"backend": "remote", "api_key": KEY}
ALL_REMOTE_SETTINGS = {
    "model": "jina-reranker-v2-base-multilingual",
    "top_n": 3,
    "threshold": 0.25,
    "metadata_fields": ["title", "page"],
    "backend": "remote",
    "base_url": "http://localhost:8080/v1/rerank",
    "dialect": "cohere",
    "timeout": 2.5,
    "max_retries": 0,
}


@pytest.mark.parametrize(
    "settings",
    [
        {"top_n": 0},
        {"top_n": -1},
        {"top_n": True},
        {"top_n": 2.0},
        {"threshold": float("nan")},
        {"threshold": np.float32("nan")},
        {"threshold": 10**400},
        {"top_n": np.int64(0)},
        {"top_n": np.float64(2)},
        {"top_n": np.bool_(True)},
        {"threshold": "0.5"},
        {"dtype": "float16"},
        {"long_documents": "drop"},
        {"backend": "cloud"},
        {"dialect": "openai"},
        {"timeout": "30"},
        {"timeout": True},
        {"max_retries": 1.5},
        {"max_retries": True},
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
        ({"dialect": "tei"}, "dialect"),
        ({"timeout": 5.0}, "timeout"),
        ({"max_retries": 0}, "max_retries"),
        ({**REMOTE, "dtype": "float32"}, "dtype"),
        ({**REMOTE, "device": "cpu"}, "device"),
        ({**REMOTE, "max_length": 512}, "max_length"),
        ({**REMOTE, "long_documents": "chunk"}, "long_documents"),
        ({**REMOTE, "revision": "main"}, "revision"),
        ({**REMOTE, "timeout": 0.0}, "timeout"),
        ({**REMOTE, "timeout": float("inf")}, "timeout"),
        ({**REMOTE, "max_retries": -1}, "max_retries"),
        ({**REMOTE, "base_url": "api.jina.ai"}, "base_url"),
        ({**REMOTE, "dialect": "tei"}, "base_url"),
        ({**REMOTE, "dialect": "cohere"}, "model"),
    ],
    ids=str,
)
def test_settings_that_do_not_go_together_are_refused_at_construction(settings, named):
    with pytest.raises(ConfigurationError, match=named) as caught:
        JinaRerank(**settings)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("settings", [{}, {"base_url": None}, {"api_key": None}], ids=str)
def test_the_hosted_service_without_a_key_is_refused_at_construction(settings):
    with pytest.raises(AuthenticationError, match="JINA_API_KEY or JINAAI_API_KEY"):
        JinaRerank(backend="remote", **settings)
    with pytest.raises(AuthenticationError, match="JINA_API_KEY"):
        JinaRerank().model_copy(update={"backend": "remote", **settings})
    with pytest.raises(AuthenticationError, match="JINA_API_KEY"):
        JinaRerank.model_validate_json('{"backend": "remote"}')


@pytest.mark.parametrize("key", ["", "jina_ two words", "jina_with_a_line's_end\n"])
def test_a_key_that_cannot_be_one_is_refused_at_construction_and_not_shown(key):
    with pytest.raises(AuthenticationError, match="api_key") as caught:
        JinaRerank(backend="remote", api_key=key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize(
    "setting",
    [
        {"model": "somewhere"},
        {"backend": "remote"},
        {"api_key": KEY},
        {"base_url": "https://example.org"},
        {"dialect": "tei"},
        {"timeout": 5.0},
        {"max_retries": 0},
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
    with pytest.raises(ConfigurationError, match=r"^top_n cannot be assigned; .*model_copy"):
        compressor.top_n = 5
    assert compressor.top_n == 3


def test_the_schema_has_every_setting_but_the_reranker():
    properties = JinaRerank.model_json_schema()["properties"]
    assert properties.keys() == JinaRerank.model_fields.keys() - {"reranker"}


@pytest.mark.torch
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


@pytest.mark.parametrize("settings", [{"top_n": KEY}, {"apikey": KEY}, {"api_key": [KEY]}], ids=len)
def test_no_error_shows_a_key_in_the_wrong_place(settings):
    with pytest.raises(ValidationError) as caught:
        JinaRerank(**settings)
    assert KEY not in str(caught.value)
    assert KEY not in repr(caught.value)


@pytest.mark.parametrize(
    "settings",
    [{}, ALL_SETTINGS, {"backend": "remote"}, ALL_REMOTE_SETTINGS],
    ids=["defaults", "all", "remote", "all remote"],
)
@pytest.mark.torch
def test_settings_survive_a_dump_and_the_constructor(monkeypatch, settings):
    monkeypatch.setenv("JINA_API_KEY", KEY)
    compressor = JinaRerank(**settings)
    assert JinaRerank(**compressor.model_dump()) == compressor
    assert JinaRerank.model_validate_json(compressor.model_dump_json()) == compressor
    assert compressor.model_dump(mode="json", include=set(settings)) == settings


def test_every_setting_is_in_the_dump_or_left_out_on_purpose():
    left_out = set(JinaRerank.model_fields) - set(JinaRerank().model_dump())
    assert left_out == {"api_key"}
    tried = ALL_SETTINGS.keys() | ALL_REMOTE_SETTINGS.keys()
    assert set(JinaRerank.model_fields) - tried == {"api_key", "reranker"}


def test_a_reranker_of_ones_own_cannot_be_written_as_json():
    compressor = JinaRerank(reranker=Reranker(FakeScorer()))
    with pytest.raises(PydanticSerializationError, match="built by hand cannot be written as JSON"):
        compressor.model_dump_json()
    assert JinaRerank(**compressor.model_dump()) == compressor


@pytest.mark.torch
def test_pickling_keeps_the_settings_and_the_reranker():
    for settings in (ALL_SETTINGS, ALL_REMOTE_SETTINGS):
        assert pickle.loads(pickle.dumps(JinaRerank(**settings))) == JinaRerank(**settings)
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


def test_a_compressor_that_has_been_used_still_pickles_and_copies(monkeypatch, backend, documents):
    settings = {name: value for name, value in backend.settings.items() if name != "api_key"}
    monkeypatch.setenv("JINA_API_KEY", KEY)
    compressor = JinaRerank(**settings, top_n=1)
    best = compressor.compress_documents(documents, "coffee")
    for other in (
        pickle.loads(pickle.dumps(compressor)),
        copy.copy(compressor),
        copy.deepcopy(compressor),
        JinaRerank.model_validate_json(compressor.model_dump_json()),
    ):
        assert other == compressor
        assert other.compress_documents(documents, "coffee") == best


@pytest.mark.torch
def test_a_copy_has_the_settings_it_was_given():
    compressor = JinaRerank(top_n=3, max_length=512)
    copied = compressor.model_copy(update={"top_n": 5, "dtype": "float32"})
    assert copied == JinaRerank(top_n=5, max_length=512, dtype="float32")
    assert compressor.top_n == 3
    assert compressor.model_copy(deep=True) == copy.copy(compressor) == compressor


def test_a_deep_copy_has_a_reranker_of_its_own(documents):
    scorer = FakeScorer()
    compressor = JinaRerank(reranker=Reranker(scorer))
    compressor.model_copy(deep=True).compress_documents(documents, "coffee")
    assert scorer.requests == []
    compressor.model_copy().compress_documents(documents, "coffee")
    assert len(scorer.requests) == 1


@pytest.mark.parametrize("update", [{"top_n": 0}, {"topn": 3}, {"long_documents": "drop"}], ids=str)
def test_a_copy_is_checked_like_any_other(update):
    with pytest.raises(ValidationError):
        JinaRerank().model_copy(update=update)


def test_a_copy_with_another_model_uses_that_model():
    first, second = Reranker(FakeScorer(lambda *_: 0.1)), Reranker(FakeScorer(lambda *_: 0.9))
    for compressor in (JinaRerank(reranker=first), JinaRerank()):
        copied = compressor.model_copy(update={"reranker": second})
        (found,) = copied.compress_documents([Document(page_content="a")], "a")
        assert found.metadata["relevance_score"] == 0.9


def test_whatever_context_pydantic_is_given_is_its_givers_own():
    assert JinaRerank.model_validate({"top_n": 1}, context={"mine": 1}) == JinaRerank(top_n=1)


COPIES = {
    "model_copy": lambda compressor: compressor.model_copy(update={"top_n": 2}),
    "deep model_copy": lambda compressor: compressor.model_copy(deep=True),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "another model": lambda compressor: compressor.model_copy(update={"model": None}),
}


@pytest.mark.parametrize("make_copy", COPIES.values(), ids=COPIES)
async def test_closing_one_of_two_copies_leaves_the_other_open(backend, documents, make_copy):
    compressor = JinaRerank(**backend.settings)
    compressor.warm_up()
    make_copy(compressor).close()
    assert len(compressor.compress_documents(documents, "coffee")) == 3
    copied = make_copy(compressor)
    await compressor.aclose()
    assert len(await copied.acompress_documents(documents, "coffee")) >= 2
    with pytest.raises(ConfigurationError, match="closed"):
        compressor.compress_documents(documents, "coffee")


async def test_close_ends_a_reranker_built_from_settings(documents, backend):
    for_sync, for_async = JinaRerank(**backend.settings), JinaRerank(**backend.settings)
    copied = for_sync.model_copy()
    for compressor in (for_sync, for_async, copied):
        compressor.compress_documents(documents, "coffee")
    for _ in range(2):
        for_sync.close()
        copied.close()
        await for_async.aclose()
    for compressor in (for_sync, for_async, copied, pickle.loads(pickle.dumps(for_sync))):
        with pytest.raises(ConfigurationError, match="closed"):
            compressor.compress_documents(documents, "coffee")
        with pytest.raises(ConfigurationError, match="closed"):
            compressor.warm_up()


def test_a_copy_of_a_closed_compressor_is_a_new_one(documents, backend):
    compressor = JinaRerank(**backend.settings)
    compressor.close()
    assert len(compressor.model_copy().compress_documents(documents, "coffee")) == 3


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


async def test_warming_up_makes_ready_and_may_be_repeated(documents, backend):
    compressor = JinaRerank(**backend.settings)
    compressor.warm_up()
    await compressor.awarm_up()
    assert len(compressor.compress_documents(documents, "coffee")) == 3


def test_a_remote_compressor_loads_no_library_of_a_model():
    program = """
import sys
from langchain_jina_rerank import JinaRerank
compressor = JinaRerank(backend="remote", base_url="http://127.0.0.1:9")
compressor.warm_up()
assert not {"torch", "transformers", "tokenizers", "numpy"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


@pytest.mark.torch
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


def test_without_the_extra_for_its_model_it_cannot_be_built(monkeypatch):
    by_hand = Reranker(LocalScorer())
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    for settings in ({"model": "org/name"}, {"reranker": by_hand}):
        with pytest.raises(ConfigurationError, match=r'pip install "jina-rerank\[local\]"'):
            JinaRerank(**settings)
    assert JinaRerank()  # ONNX Runtime runs the embedded model
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigurationError, match=r"\[local\].*\[onnx\]"):
        JinaRerank()
    assert JinaRerank(backend="remote", base_url="http://localhost")

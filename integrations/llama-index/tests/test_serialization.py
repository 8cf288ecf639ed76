"""Dumps, pickles and copies: they carry every setting, and no key."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import threading

import numpy as np
import pytest
from llama_index.core.bridge.pydantic import BaseModel, SecretStr
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.schema import MetadataMode
from pydantic_core import PydanticSerializationError

from jina_rerank import (
    AuthenticationError,
    ConfigurationError,
    InputError,
    RemoteScorer,
    Reranker,
)
from jina_rerank.testing import FakeScorer
from llama_index.postprocessor.jina_rerank import JinaRerank

KEY = "jina_0123456789abcdef"
OTHER_KEY = "jina_fedcba9876543210"

# Every setting that can be serialized, each at a value that is not its default.
OF_CALLS = {"top_n": 7, "threshold": 0.25, "metadata_mode": MetadataMode.LLM}
OF_LOCAL = {
    "backend": "local",
    "model": "jinaai/jina-reranker-v1-turbo-en",
    "dtype": "float32",
    "device": "cpu",
    "max_length": 512,
    "long_documents": "chunk",
    "revision": "main",
}
OF_REMOTE = {
    "backend": "remote",
    "model": "BAAI/bge-reranker-v2-m3",
    "base_url": "http://localhost:8080/v2",
    "dialect": "cohere",
    "timeout": 7.5,
    "max_retries": 0,
}
NOT_SERIALIZED = {"api_key", "reranker", "callback_manager"}


def test_every_setting_has_its_place_in_these_tests():
    accepted = set(inspect.signature(JinaRerank).parameters)
    assert accepted == set(OF_CALLS) | set(OF_LOCAL) | set(OF_REMOTE) | NOT_SERIALIZED


@pytest.mark.parametrize("settings", [OF_LOCAL, OF_REMOTE], ids=["local", "remote"])
@pytest.mark.torch
def test_every_setting_survives_a_round_trip(settings):
    rerank = JinaRerank(**OF_CALLS, **settings)
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(JinaRerank).parameters.items()
        if name not in NOT_SERIALIZED
    }
    expected = {**defaults, **OF_CALLS, **settings, "class_name": "JinaRerank"}
    assert rerank.to_dict() == expected
    assert json.loads(rerank.to_json()) == expected
    for again in (
        JinaRerank.from_dict(rerank.to_dict()),
        JinaRerank.from_json(rerank.to_json()),
        pickle.loads(pickle.dumps(rerank)),
        copy.deepcopy(rerank),
        copy.copy(rerank),
    ):
        assert again.to_dict() == expected
        assert isinstance(again.metadata_mode, MetadataMode)
        # What the model was built with, and not only what the fields say.
        assert repr(again._reranker) == repr(rerank._reranker)


def test_from_dict_leaves_its_argument_alone_and_takes_overrides(backend):
    data = backend.build(top_n=3).to_dict()
    before = dict(data)
    assert JinaRerank.from_dict(data, top_n=5).top_n == 5
    assert data == before


@pytest.mark.parametrize(
    "again",
    [
        lambda rerank: JinaRerank.from_dict(rerank.to_dict()),
        lambda rerank: JinaRerank.from_json(rerank.to_json()),
        lambda rerank: pickle.loads(pickle.dumps(rerank)),
        copy.deepcopy,
        copy.copy,
    ],
    ids=["dict", "json", "pickle", "deepcopy", "copy"],
)
def test_a_copy_ranks_as_the_original(backend, numbers, monkeypatch, again):
    monkeypatch.setenv("JINA_API_KEY", KEY)
    rerank = backend.build(top_n=2)
    before = rerank.postprocess_nodes(numbers, query_str="q")
    after = again(rerank).postprocess_nodes(numbers, query_str="q")
    assert [(n.text, n.score) for n in after] == [
        (n.text, pytest.approx(n.score, abs=1e-6)) for n in before
    ]


@pytest.mark.parametrize("variable", ["JINA_API_KEY", "JINAAI_API_KEY"])
def test_a_key_in_the_environment_is_no_concern_of_a_local_model(monkeypatch, variable):
    monkeypatch.setenv(variable, KEY)
    rerank = JinaRerank()
    assert KEY not in repr(rerank) + rerank.to_json()


@pytest.fixture(params=["str", "SecretStr", "environment"])
def with_key(request, monkeypatch):
    """A hosted one, with a key given in each way there is."""
    if request.param == "environment":
        monkeypatch.setenv("JINA_API_KEY", KEY)
        return JinaRerank(backend="remote")
    return JinaRerank(backend="remote", api_key=KEY if request.param == "str" else SecretStr(KEY))


def test_a_key_is_in_no_dump(with_key):
    rerank = with_key
    rerank.warm_up()  # an open connection pool holds the key too
    shown = [
        repr(rerank),
        str(rerank),
        rerank.to_json(),
        rerank.json(),
        rerank.model_dump_json(),
        json.dumps(rerank.to_dict()),
        repr(rerank.model_dump()),
        repr(vars(rerank)),
        repr(rerank.__getstate__()),
        repr(rerank.__pydantic_private__),
    ]
    assert all(KEY not in text for text in shown)
    assert all(KEY.encode() not in pickle.dumps(rerank, protocol) for protocol in range(6))
    assert KEY.encode() not in pickle.dumps(copy.deepcopy(rerank))
    assert "api_key" not in rerank.to_dict()


def test_no_key_is_in_the_schema(with_key):
    assert KEY not in json.dumps(with_key.model_json_schema())


def sent_keys(server):
    return [request.headers.get("authorization") for request in server.requests]


def test_a_deep_copy_keeps_the_key(remote, server, numbers):
    for again in (copy.deepcopy(remote()), copy.copy(remote()), remote().model_copy(deep=True)):
        again.postprocess_nodes(numbers, query_str="q")
    assert sent_keys(server) == [f"Bearer {KEY}"] * 3


def test_a_pickle_reads_the_environment_of_its_reader(remote, server, numbers, monkeypatch):
    pickled = pickle.dumps(remote())
    monkeypatch.setenv("JINA_API_KEY", OTHER_KEY)
    pickle.loads(pickled).postprocess_nodes(numbers, query_str="q")
    assert sent_keys(server) == [f"Bearer {OTHER_KEY}"]


def test_a_pickle_whose_key_is_lost_says_so_and_sends_nothing(remote, server, numbers):
    again = pickle.loads(pickle.dumps(remote()))
    with pytest.raises(ConfigurationError, match="the key of this scorer did not go into its"):
        again.postprocess_nodes(numbers, query_str="q")
    assert server.received == 0


def test_a_dump_reads_the_environment_of_its_reader(remote, server, numbers, monkeypatch):
    dumped = remote(dialect="jina", timeout=7.5).to_json()
    monkeypatch.setenv("JINAAI_API_KEY", OTHER_KEY)
    again = JinaRerank.from_json(dumped)
    again.postprocess_nodes(numbers, query_str="q")
    assert sent_keys(server) == [f"Bearer {OTHER_KEY}"]
    assert (again.base_url, again.dialect, again.timeout) == (server.url, "jina", 7.5)


def test_a_key_may_be_given_to_what_a_dump_becomes(remote, server, numbers):
    again = JinaRerank.from_dict(remote().to_dict(), api_key=OTHER_KEY)
    again.postprocess_nodes(numbers, query_str="q")
    assert sent_keys(server) == [f"Bearer {OTHER_KEY}"]


def test_a_dump_for_the_hosted_service_without_a_key_is_refused():
    dumped = JinaRerank(backend="remote", api_key=KEY).to_json()
    with pytest.raises(AuthenticationError, match="JINA_API_KEY"):
        JinaRerank.from_json(dumped)


def test_a_shared_reranker_cannot_be_serialized(backend):
    rerank = JinaRerank(reranker=backend.reranker(), top_n=3)
    for serialize in (rerank.to_dict, rerank.to_json, rerank.json):
        with pytest.raises(ConfigurationError, match="reranker= cannot be serialized"):
            serialize()


def test_a_shared_reranker_is_pickled_with_its_model(numbers):
    rerank = JinaRerank(reranker=Reranker(FakeScorer(float_of_text)), top_n=2)
    for again in (pickle.loads(pickle.dumps(rerank)), copy.deepcopy(rerank)):
        assert again.top_n == 2
        assert [n.score for n in again.postprocess_nodes(numbers, query_str="q")] == [0.9, 0.5]
        with pytest.raises(ConfigurationError):
            again.to_dict()


def test_a_shared_remote_reranker_leaves_its_key_and_headers_out_of_a_pickle(server, numbers):
    scorer = RemoteScorer(base_url=server.url, api_key=KEY, headers={"X-Tenant": OTHER_KEY})
    rerank = JinaRerank(reranker=Reranker(scorer))
    pickled = pickle.dumps(rerank)
    assert KEY.encode() not in pickled
    assert OTHER_KEY.encode() not in pickled
    assert KEY not in repr(rerank) + repr(rerank.__pydantic_private__)
    copy.deepcopy(rerank).postprocess_nodes(numbers, query_str="q")
    (request,) = server.requests
    assert (request.headers["authorization"], request.headers["x-tenant"]) == (
        f"Bearer {KEY}",
        OTHER_KEY,
    )


def float_of_text(_: str, text: str) -> float:
    return float(text)


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda rerank: rerank.model_copy(),
    "deep model_copy": lambda rerank: rerank.model_copy(deep=True),
    "model_copy with another top_n": lambda rerank: rerank.model_copy(update={"top_n": 4}),
}
each_copy = pytest.mark.parametrize("make_copy", COPIES.values(), ids=COPIES)


@each_copy
async def test_closing_one_of_two_copies_leaves_the_other_open(backend, numbers, make_copy):
    rerank = backend.build()
    rerank.warm_up()
    make_copy(rerank).close()
    assert len(rerank.postprocess_nodes(numbers, query_str="q")) == 4
    copied = make_copy(rerank)
    await rerank.aclose()
    assert len(await copied.apostprocess_nodes(numbers, query_str="q")) == 4


@each_copy
def test_closing_a_copy_leaves_a_shared_reranker_open(backend, numbers, make_copy):
    shared = backend.reranker()
    make_copy(JinaRerank(reranker=shared)).close()
    assert len(shared.rank("q", [node.text for node in numbers])) == 4


def test_a_copy_shares_a_given_reranker_and_a_deep_copy_does_not(numbers):
    scorer = FakeScorer(float_of_text)
    rerank = JinaRerank(reranker=Reranker(scorer))
    rerank.model_copy(update={"top_n": 1}).postprocess_nodes(numbers, query_str="q")
    assert len(scorer.requests) == 1
    for deep in (copy.deepcopy(rerank), rerank.model_copy(deep=True)):
        deep.postprocess_nodes(numbers, query_str="q")
    assert len(scorer.requests) == 1


@pytest.mark.torch
def test_a_copys_new_settings_reach_its_model():
    rerank = JinaRerank(top_n=3, max_length=512)
    update = {"max_length": 64, "top_n": np.int64(2), "metadata_mode": "none"}
    copied = rerank.model_copy(update=update)
    assert repr(copied._reranker) == repr(JinaRerank(max_length=64)._reranker)
    assert (copied.top_n, copied.max_length) == (2, 64)
    assert copied.metadata_mode is MetadataMode.NONE
    assert (rerank.top_n, rerank.max_length) == (3, 512)


@pytest.mark.parametrize(
    ("update", "error"),
    [
        ({"top_n": 0}, InputError),
        ({"max_length": 1}, ConfigurationError),
        ({"timeout": 5}, ConfigurationError),
        ({"topn": 3}, TypeError),
    ],
    ids=str,
)
def test_a_copys_new_settings_are_checked(update, error):
    (name,) = update
    with pytest.raises(error, match=name):
        JinaRerank().model_copy(update=update)


@each_copy
def test_a_copy_shares_the_callback_manager(make_copy):
    debug = LlamaDebugHandler(print_trace_on_end=False)
    debug.lock = threading.Lock()  # cannot be copied, as a handler's connection
    rerank = JinaRerank(callback_manager=CallbackManager([debug]))
    assert make_copy(rerank).callback_manager is rerank.callback_manager


class Configuration(BaseModel):
    """An application's own settings."""

    rerank: JinaRerank


def test_pydantic_reads_what_it_has_written(backend):
    rerank = backend.build(top_n=3, metadata_mode=MetadataMode.LLM)
    saved = Configuration(rerank=rerank).model_dump_json()
    for again in (
        JinaRerank(**rerank.model_dump()),
        JinaRerank.model_validate(rerank.model_dump()),
        JinaRerank.model_validate_json(rerank.model_dump_json()),
        Configuration.model_validate_json(saved).rerank,
    ):
        assert again.to_dict() == rerank.to_dict()


def test_the_name_of_another_class_is_refused():
    with pytest.raises(TypeError, match="class_name"):
        JinaRerank(class_name="SimilarityPostprocessor")


def test_pydantic_does_not_write_a_shared_reranker_either(backend):
    rerank = JinaRerank(reranker=backend.reranker(), top_n=3)
    for saved in (rerank, Configuration(rerank=rerank)):
        for write in (saved.model_dump, saved.model_dump_json):
            with pytest.raises(PydanticSerializationError, match="reranker= cannot be serialized"):
                write()


def test_pickling_leaves_the_callback_handlers_behind(numbers):
    debug = LlamaDebugHandler(print_trace_on_end=False)
    debug.lock = threading.Lock()  # what a handler with a connection looks like to pickle
    rerank = JinaRerank(
        reranker=Reranker(FakeScorer(float_of_text)), callback_manager=CallbackManager([debug])
    )
    again = pickle.loads(pickle.dumps(rerank))
    assert again.callback_manager.handlers == []
    assert again.postprocess_nodes(numbers, query_str="q")[0].text == "0.9"
    assert rerank.callback_manager.handlers == [debug]


def test_what_cannot_be_pickled_is_an_error_and_not_left_out():
    scorer = FakeScorer()
    scorer.lock = threading.Lock()
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(JinaRerank(reranker=Reranker(scorer)))


def test_numpys_numbers_are_written_as_pythons():
    numbers = {"timeout": np.float32(2.5), "max_retries": np.int64(1), "top_n": np.int16(4)}
    remote = JinaRerank(backend="remote", base_url="http://localhost", **numbers)
    local = JinaRerank(max_length=np.int64(64), threshold=np.float64(0.5))
    for reranker in (remote, local):
        assert JinaRerank.from_json(reranker.to_json()).to_dict() == reranker.to_dict()

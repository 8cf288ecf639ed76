"""A key reaches the service that it is for, and nothing else."""

import asyncio
import copy
import json
import logging
import pickle

import pytest
from faults import EchoKey
from haystack import Document, Pipeline
from haystack.utils import Secret

from haystack_integrations.components.rankers.jina_rerank import JinaRanker
from jina_rerank import AuthenticationError, RemoteScorer, Reranker

KEY = "jina_0123456789abcdef"
OTHER = "jina_fedcba9876543210"
DOCUMENTS = [Document(content="Tea."), Document(content="Coffee beans are roasted.")]
DIALECTS = ["jina", "cohere", "tei", "sagemaker"]


def sent(server):
    return server.requests[-1].headers.get("authorization")


def a_pipeline(ranker):
    pipeline = Pipeline()
    pipeline.add_component("ranker", ranker)
    return pipeline


def ask(ranker):
    return ranker.run("coffee", list(DOCUMENTS))


class TestFromTheEnvironment:
    @pytest.mark.parametrize("api_key", [{}, {"api_key": None}], ids=["default", "none"])
    def test_the_first_that_is_set(self, server, remote, monkeypatch, api_key):
        monkeypatch.setenv("JINAAI_API_KEY", OTHER)
        ask(remote(**api_key))
        assert sent(server) == f"Bearer {OTHER}"
        monkeypatch.setenv("JINA_API_KEY", KEY)
        ask(remote(**api_key))
        assert sent(server) == f"Bearer {KEY}"
        monkeypatch.setenv("JINA_API_KEY", "")
        ask(remote(**api_key))
        assert sent(server) == f"Bearer {OTHER}"

    def test_none_is_fine_for_a_service_of_ones_own(self, server, remote):
        ask(remote())
        assert sent(server) is None

    @pytest.mark.parametrize("dialect", DIALECTS)
    def test_it_is_for_jinas_dialect_only(self, server, remote, monkeypatch, dialect):
        monkeypatch.setenv("JINA_API_KEY", KEY)
        monkeypatch.setenv("JINAAI_API_KEY", OTHER)
        ask(remote(model="m", dialect=dialect))
        assert sent(server) == (f"Bearer {KEY}" if dialect == "jina" else None)
        loaded = JinaRanker.from_dict(remote(model="m", dialect=dialect).to_dict())
        ask(loaded)
        assert sent(server) == (f"Bearer {KEY}" if dialect == "jina" else None)

    @pytest.mark.parametrize("warm_up", ["warm_up", "warm_up_async", "run", "run_async"])
    def test_it_is_read_when_warming_up(self, server, remote, monkeypatch, warm_up):
        ranker = remote()
        monkeypatch.setenv("JINA_API_KEY", KEY)
        if "run" in warm_up:
            called = getattr(ranker, warm_up)("coffee", list(DOCUMENTS))
        else:
            called = getattr(ranker, warm_up)()
        if warm_up.endswith("async"):
            asyncio.run(called)
        monkeypatch.setenv("JINA_API_KEY", OTHER)
        ask(ranker)
        assert sent(server) == f"Bearer {KEY}"
        ranker.close()
        ask(ranker)
        assert sent(server) == f"Bearer {OTHER}"

    def test_the_hosted_service_needs_one(self):
        ranker = JinaRanker(backend="remote")
        pipeline = a_pipeline(ranker)
        data = {"ranker": {"query": "coffee", "documents": DOCUMENTS}}
        for call in (ranker.warm_up, lambda: ask(ranker), lambda: pipeline.run(data)):
            with pytest.raises(AuthenticationError, match="set JINA_API_KEY or JINAAI_API_KEY"):
                call()
        for call in (
            ranker.warm_up_async,
            lambda: ranker.run_async("coffee", DOCUMENTS),
            lambda: pipeline.run_async(data),
        ):
            with pytest.raises(AuthenticationError, match="set JINA_API_KEY or JINAAI_API_KEY"):
                asyncio.run(call())

    def test_a_pipeline_is_loaded_where_there_is_none(self):
        text = a_pipeline(JinaRanker(backend="remote")).dumps()
        assert Pipeline.loads(text).dumps() == text

    @pytest.mark.parametrize("api_key", [{}, {"api_key": None}], ids=["default", "none"])
    def test_where_none_can_come_building_fails(self, monkeypatch, api_key):
        monkeypatch.setenv("JINA_API_KEY", KEY)
        with pytest.raises(AuthenticationError, match="pass api_key"):
            JinaRanker("rerank-v3.5", backend="remote", dialect="cohere", **api_key)


class TestGiven:
    @pytest.mark.parametrize("dialect", DIALECTS)
    @pytest.mark.parametrize("how", ["token", "name"])
    def test_it_goes_to_any_service(self, server, remote, monkeypatch, dialect, how):
        monkeypatch.setenv("JINA_API_KEY", OTHER)
        monkeypatch.setenv("MY_KEY", KEY)
        secret = Secret.from_token(KEY) if how == "token" else Secret.from_env_var("MY_KEY")
        ask(remote(model="m", dialect=dialect, api_key=secret))
        assert sent(server) == f"Bearer {KEY}"

    def test_a_strict_name_that_is_not_set_fails_at_warm_up(self, remote):
        ranker = remote(api_key=Secret.from_env_var("MY_KEY"))
        with pytest.raises(ValueError, match="MY_KEY"):
            ranker.warm_up()

    @pytest.mark.parametrize("dialect", DIALECTS)
    def test_another_one_never_takes_its_place(self, server, remote, monkeypatch, dialect):
        secret = Secret.from_env_var("MY_KEY", strict=False)
        ask(remote(model="m", dialect=dialect, api_key=secret))
        assert sent(server) is None
        monkeypatch.setenv("JINA_API_KEY", KEY)
        ranker = remote(model="m", dialect=dialect, api_key=secret)
        if dialect == "jina":
            with pytest.raises(AuthenticationError, match="MY_KEY is not set"):
                ask(ranker)
        else:
            ask(ranker)
            assert sent(server) is None

    @pytest.mark.parametrize("token", ["jina_0123456789\n", "jina 0123456789"])
    def test_a_malformed_one_is_not_shown(self, remote, token):
        with pytest.raises(AuthenticationError, match="white space") as caught:
            remote(api_key=Secret.from_token(token)).warm_up()
        assert "0123456789" not in str(caught.value)


def written(ranker):
    """Everything that a ranker can be turned into and that may be kept."""
    pipeline = a_pipeline(copy.copy(ranker))
    return [
        pickle.dumps(ranker),
        pickle.dumps(pipeline),
        json.dumps(ranker.to_dict()).encode(),
        pipeline.dumps().encode(),
        *(shown.encode() for shown in shown_of(ranker)),
    ]


def shown_of(ranker):
    return [repr(ranker), str(ranker), repr(vars(ranker)), repr(ranker._open()), f"{ranker}"]


class TestNeverWrittenDown:
    @pytest.mark.parametrize("secret", [{}, {"api_key": Secret.from_env_var("MY_KEY")}])
    def test_one_of_the_environment(self, remote, monkeypatch, secret):
        monkeypatch.setenv("MY_KEY" if secret else "JINA_API_KEY", KEY)
        ranker = remote(**secret)
        ask(ranker)
        for again in (ranker, copy.deepcopy(ranker), pickle.loads(pickle.dumps(ranker))):
            ask(again)
            assert not [form for form in written(again) if KEY.encode() in form]

    @pytest.mark.parametrize("is_warm", [False, True])
    def test_a_token(self, remote, is_warm):
        ranker = remote(api_key=Secret.from_token(KEY))
        if is_warm:
            ask(ranker)
        pipeline = a_pipeline(ranker)
        for write in (
            ranker.to_dict,
            pipeline.dumps,
            lambda: pickle.dumps(ranker),
            lambda: pickle.dumps(pipeline),
        ):
            with pytest.raises(ValueError, match="Cannot serialize token") as caught:
                write()
            assert KEY not in str(caught.value)
        assert not [shown for shown in shown_of(ranker) if KEY in shown]

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
    @pytest.mark.parametrize("is_warm", [False, True])
    def test_a_copy_keeps_a_token(self, server, remote, copied, is_warm):
        ranker = remote(api_key=Secret.from_token(KEY))
        if is_warm:
            ask(ranker)
        again = copied(ranker)
        ask(again)
        assert sent(server) == f"Bearer {KEY}"
        assert not [shown for shown in shown_of(again) if KEY in shown]

    def test_a_shared_scorers_key_stays_out_of_the_pickle(self, server):
        ranker = JinaRanker(reranker=Reranker(RemoteScorer(base_url=server.url, api_key=KEY)))
        ask(ranker)
        assert KEY.encode() not in pickle.dumps(ranker)
        ask(copy.deepcopy(ranker))
        assert sent(server) == f"Bearer {KEY}"

    def test_a_pickle_takes_the_key_of_where_it_is_read(self, server, remote, monkeypatch):
        monkeypatch.setenv("JINA_API_KEY", KEY)
        ranker = remote()
        ask(ranker)
        pickled = pickle.dumps(ranker)
        monkeypatch.setenv("JINA_API_KEY", OTHER)
        ask(pickle.loads(pickled))
        assert sent(server) == f"Bearer {OTHER}"

    def test_a_service_that_sends_it_back(self, server, remote, caplog):
        caplog.set_level(logging.DEBUG)
        server.default = EchoKey()
        with pytest.raises(AuthenticationError) as caught:
            ask(remote(api_key=Secret.from_token(KEY)))
        assert KEY not in str(caught.value) + repr(caught.value)
        assert KEY.encode() not in pickle.dumps(caught.value)
        assert KEY not in caplog.text


def test_a_dumped_pipeline_asks_the_same_service(server, remote, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    ranker = remote(
        model="m", dialect="tei", timeout=7.5, max_retries=1, api_key=Secret.from_env_var("MY_KEY")
    )
    loaded = Pipeline.loads(a_pipeline(ranker).dumps())
    assert loaded.get_component("ranker").to_dict() == ranker.to_dict()
    data = {"ranker": {"query": "coffee", "documents": DOCUMENTS}}
    assert loaded.run(data)["ranker"] == ask(ranker)
    assert server.requests[0].path == server.requests[1].path == "/rerank"
    assert sent(server) == f"Bearer {KEY}"

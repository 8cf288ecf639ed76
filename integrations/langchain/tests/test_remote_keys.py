"""`backend="remote"`: where its key comes from, where it goes, and that nothing else shows it."""

import copy
import logging
import pickle
import traceback

import pytest
from faults import EchoKey, Html, Status
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_core.load import dumps
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from jina_rerank import (
    AuthenticationError,
    ConfigurationError,
    FallbackScorer,
    LocalScorer,
    RemoteScorer,
    Reranker,
    RerankError,
)
from langchain_jina_rerank import JinaRerank

QUERY = "how to store coffee beans"
KEY = "jina_secret-0123456789"
ENVIRONMENT_KEY = "jina_of-the-environment-0123456789"


def authorization(service):
    return [request.headers.get("authorization") for request in service.requests]


def forms(compressor, retriever):
    """Everything that a compressor can be written or shown as."""
    around = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=retriever)
    fields = compressor.model_dump()
    return {
        "repr": repr(compressor),
        "str": str(compressor),
        "model_dump": repr(fields),
        "model_dump_json": compressor.model_dump_json(),
        "dumps": dumps(compressor),
        "pickle": pickle.dumps(compressor),
        "oldest pickle": pickle.dumps(compressor, protocol=0),
        "repr of a copy": repr(copy.deepcopy(compressor)),
        "pickle of a copy": pickle.dumps(copy.deepcopy(compressor)),
        "repr of a retriever": repr(around),
        "dumps of a retriever": dumps(around),
        "pickle of a retriever": pickle.dumps(around),
        "vars": repr(vars(compressor)),
    }


@pytest.mark.parametrize("source", ["given", "environment"])
def test_no_form_of_the_compressor_shows_the_key(
    monkeypatch, remote, service, documents, retriever, source
):
    monkeypatch.setenv("JINA_API_KEY", KEY if source == "environment" else ENVIRONMENT_KEY)
    compressor = remote(api_key=KEY) if source == "given" else remote()
    compressor.compress_documents(documents, QUERY)
    assert authorization(service) == [f"Bearer {KEY}"]
    for name, form in forms(compressor, retriever).items():
        text = form.decode("latin-1") if isinstance(form, bytes) else form
        assert KEY not in text, name
        assert ENVIRONMENT_KEY not in text, name


@pytest.mark.torch
def test_no_form_shows_the_key_of_a_reranker_of_ones_own_and_a_deep_copy_keeps_it(
    service, documents, retriever
):
    scorer = FallbackScorer(RemoteScorer(api_key=KEY, base_url=service.url), LocalScorer())
    compressor = JinaRerank(reranker=Reranker(scorer))
    around = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=retriever)
    shown = [
        repr(compressor),
        repr(compressor.model_dump()),
        dumps(around),
        pickle.dumps(around).decode("latin-1"),
    ]
    assert [form for form in shown if KEY in form] == []
    copy.deepcopy(around).invoke(QUERY)
    assert authorization(service) == [f"Bearer {KEY}"]


def test_no_form_of_a_local_compressor_shows_the_key(monkeypatch, retriever):
    monkeypatch.setenv("JINA_API_KEY", KEY)
    for name, form in forms(JinaRerank(), retriever).items():
        text = form.decode("latin-1") if isinstance(form, bytes) else form
        assert KEY not in text, name


@pytest.mark.parametrize("fault", [EchoKey(), Status(500, "Bearer " + KEY), Html(502)], ids=repr)
async def test_no_error_trace_or_log_shows_the_key(search, remote, service, caplog, fault):
    service.default = fault
    caplog.set_level(logging.DEBUG)
    collector = RunCollectorCallbackHandler()
    compressor = remote(api_key=KEY, max_retries=0)
    with pytest.raises(RerankError) as caught:
        await search(compressor)
    with pytest.raises(RerankError):
        compressor.compress_documents([Document(page_content="a")], QUERY, callbacks=[collector])
    shown = [
        str(caught.value),
        repr(caught.value),
        "".join(traceback.format_exception(caught.value)),
        repr(pickle.dumps(caught.value)),
        caplog.text,
        collector.traced_runs[0].model_dump_json(),
    ]
    assert "Bearer" in service.requests[0].headers["authorization"]
    assert [text for text in shown if KEY in text] == []


@pytest.mark.parametrize("name", ["api_key", "base_url", "jina_api_key"])
def test_an_assignment_is_refused_without_showing_the_value(name):
    with pytest.raises(ConfigurationError, match=f"^{name} cannot be assigned") as caught:
        setattr(JinaRerank(), name, KEY)
    assert KEY not in str(caught.value) + repr(caught.value)
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)][1:]
    assert KEY not in repr([frame.f_locals for frame in frames])


def test_settings_round_trip_where_the_environment_has_the_key(monkeypatch, remote, service):
    monkeypatch.setenv("JINAAI_API_KEY", KEY)
    compressor = remote(timeout=7.5, max_retries=1, dialect="jina", top_n=2)
    others = [
        JinaRerank(**compressor.model_dump()),
        JinaRerank.model_validate_json(compressor.model_dump_json()),
        pickle.loads(pickle.dumps(compressor)),
        copy.deepcopy(compressor),
    ]
    for other in others:
        assert other == compressor
        assert (other.base_url, other.timeout, other.max_retries) == (service.url, 7.5, 1)
        other.compress_documents([Document(page_content="a")], QUERY)
    assert authorization(service) == [f"Bearer {KEY}"] * 4


def test_copies_keep_a_key_that_was_given_and_one_that_has_left_the_environment(
    monkeypatch, remote, service
):
    documents = [Document(page_content="a")]
    monkeypatch.setenv("JINA_API_KEY", ENVIRONMENT_KEY)
    compressors = {KEY: remote(api_key=KEY), ENVIRONMENT_KEY: remote()}
    monkeypatch.delenv("JINA_API_KEY")
    for key, compressor in compressors.items():
        service.reset()
        for copied in (copy.deepcopy(compressor), copy.copy(compressor), compressor.model_copy()):
            copied.compress_documents(documents, QUERY)
        assert authorization(service) == [f"Bearer {key}"] * 3


def test_where_a_pickle_is_read_the_key_is_that_of_the_environment(monkeypatch, remote, service):
    documents = [Document(page_content="a")]
    stored = pickle.dumps(remote(api_key=KEY))
    monkeypatch.setenv("JINA_API_KEY", ENVIRONMENT_KEY)
    pickle.loads(stored).compress_documents(documents, QUERY)
    assert authorization(service) == [f"Bearer {ENVIRONMENT_KEY}"]


def test_a_pickle_that_lost_its_key_says_so_and_sends_nothing(monkeypatch, remote, service):
    documents = [Document(page_content="a")]
    with pytest.raises(ConfigurationError, match="did not go into its pickle"):
        pickle.loads(pickle.dumps(remote(api_key=KEY))).compress_documents(documents, QUERY)
    hosted = pickle.dumps(JinaRerank(backend="remote", api_key=KEY))
    with pytest.raises((AuthenticationError, ConfigurationError), match="key"):
        pickle.loads(hosted).compress_documents(documents, QUERY)
    monkeypatch.setenv("JINA_API_KEY", ENVIRONMENT_KEY)
    stored = pickle.dumps(remote(api_key=KEY, dialect="tei"))
    with pytest.raises(ConfigurationError, match="did not go into its pickle"):
        pickle.loads(stored).compress_documents(documents, QUERY)
    assert service.connections == 0


@pytest.mark.parametrize("name", ["JINA_API_KEY", "JINAAI_API_KEY"])
def test_either_variable_of_the_official_integrations_holds_the_key(
    monkeypatch, remote, service, documents, name
):
    monkeypatch.setenv("JINA_API_KEY", "")
    monkeypatch.setenv(name, KEY)
    remote().compress_documents(documents, QUERY)
    assert authorization(service) == [f"Bearer {KEY}"]

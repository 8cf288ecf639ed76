"""Building, warming up and closing."""

from __future__ import annotations

import inspect
import logging
import math
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.bridge.pydantic import SecretStr
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from jina_rerank import (
    ConfigurationError,
    InputError,
    LocalScorer,
    ModelLoadError,
    RemoteScorer,
    Reranker,
    RerankError,
)
from jina_rerank.plugin import build_reranker
from jina_rerank.testing import FakeScorer
from llama_index.postprocessor.jina_rerank import JinaRerank

KEY = "jina_0123456789abcdef"

LOCAL = {
    "model": "jinaai/jina-reranker-v1-turbo-en",
    "dtype": "float32",
    "device": "cpu",
    "max_length": 512,
    "long_documents": "chunk",
    "revision": "main",
}
HOSTED = {"backend": "remote", "api_key": KEY}
REMOTE = {
    "model": "BAAI/bge-reranker-v2-m3",
    "base_url": "http://localhost:8080",
    "dialect": "cohere",
    "timeout": 7.5,
    "max_retries": 0,
}


def test_the_defaults_are_the_cores():
    core = inspect.signature(build_reranker).parameters
    ours = inspect.signature(JinaRerank).parameters
    assert {n: ours[n].default for n in core} == {n: p.default for n, p in core.items()}
    fields = JinaRerank.model_fields
    assert {n: fields[n].default for n in core} == {n: p.default for n, p in core.items()}


@pytest.mark.torch
def test_local_settings_reach_the_model():
    rerank = JinaRerank(**LOCAL)
    assert repr(rerank._reranker) == repr(
        Reranker(
            LocalScorer(
                "jinaai/jina-reranker-v1-turbo-en",
                dtype="float32",
                device="cpu",
                max_length=512,
                long_documents="chunk",
                revision="main",
            )
        )
    )


def test_remote_settings_reach_the_service():
    rerank = JinaRerank(backend="remote", api_key=KEY, **REMOTE)
    scorer = rerank._reranker.scorer
    assert repr(scorer) == repr(RemoteScorer(api_key=KEY, **REMOTE))
    assert scorer.fingerprint == RemoteScorer(api_key=KEY, **REMOTE).fingerprint
    assert "timeout=7.5" in repr(scorer)


def test_the_default_of_the_service_is_todays_model_and_address():
    rerank = JinaRerank(backend="remote", api_key=KEY)
    assert rerank._reranker.model == "jina-reranker-v3.5"
    assert "https://api.jina.ai/v1/rerank" in repr(rerank._reranker)


@pytest.mark.parametrize("dialect", ["jina", "cohere", "tei", "sagemaker"])
def test_every_dialect_can_be_named(dialect):
    rerank = JinaRerank(backend="remote", base_url="http://localhost", model="m", dialect=dialect)
    assert f"dialect={dialect!r}" in repr(rerank._reranker)


@pytest.mark.torch
def test_a_folder_may_be_a_path():
    assert JinaRerank(model=Path("models") / "mine").to_dict()["model"] == str(
        Path("models") / "mine"
    )


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"top_n": 0}, "top_n: must be at least 1"),
        ({"top_n": -1}, "top_n: must be at least 1"),
        ({"top_n": True}, "top_n: must be a whole number"),
        ({"threshold": float("nan")}, "threshold: is NaN"),
        ({"threshold": "0.5"}, "threshold: must be a number"),
        ({"threshold": 10**400}, "threshold: is beyond all scores"),
        ({"top_n": np.int64(0)}, "top_n: must be at least 1, or None for all, not 0"),
        ({"metadata_mode": "title"}, "metadata_mode must be one of"),
        ({"dtype": "float16"}, "dtype must be one of"),
        ({"max_length": 1}, "max_length must be"),
        ({"long_documents": "split"}, "long_documents must be one of"),
        ({"revision": "main"}, "revision: the embedded model has none"),
        ({"backend": "cloud"}, "backend must be one of"),
        ({"api_key": KEY}, "api_key: applies to services only"),
        ({"api_key": SecretStr(KEY)}, "api_key: applies to services only"),
        ({"base_url": "http://localhost"}, "base_url: applies to services only"),
        ({"dialect": "tei"}, "dialect: applies to services only"),
        ({"timeout": 5}, "timeout: applies to services only"),
        ({"max_retries": 0}, "max_retries: applies to services only"),
        (HOSTED | {"dtype": "float32"}, "dtype: applies to models on this machine only"),
        (HOSTED | {"device": "cpu"}, "device: applies to models on this machine only"),
        (HOSTED | {"max_length": 512}, "max_length: applies to models on this machine only"),
        (HOSTED | {"revision": "main"}, "revision: applies to models on this machine only"),
        (HOSTED | {"long_documents": "chunk"}, "long_documents: applies to models on this machine"),
        (HOSTED | {"top_n": 0}, "top_n: must be at least 1"),
        (HOSTED | {"top_n": -1}, "top_n: must be at least 1"),
        (HOSTED | {"model": ""}, "model must be a name, not ''"),
        (HOSTED | {"dialect": "openai"}, "dialect must be one of"),
        (HOSTED | {"dialect": "tei"}, "base_url is missing"),
        (HOSTED | {"dialect": "cohere"}, "model is missing"),
        (HOSTED | {"timeout": 0}, "timeout must be a number of seconds above 0"),
        (HOSTED | {"timeout": None}, "timeout must be a number of seconds above 0"),
        (HOSTED | {"timeout": "5"}, "timeout must be a number of seconds above 0"),
        (HOSTED | {"max_retries": -1}, "max_retries must be a whole number from 0"),
        (HOSTED | {"max_retries": 1.5}, "max_retries must be a whole number from 0"),
        (HOSTED | {"base_url": "localhost:8080"}, "base_url must be an address"),
        (HOSTED | {"base_url": f"http://{KEY}@localhost"}, "base_url holds a user"),
        (HOSTED | {"base_url": f"http://localhost?key={KEY}"}, "base_url holds a query"),
        ({"reranker": "jina-rerank-mini"}, "reranker must be a jina_rerank.Reranker, not str"),
        ({"reranker": FakeScorer()}, "reranker must be a jina_rerank.Reranker, not FakeScorer"),
    ],
)
@pytest.mark.torch
def test_bad_settings_fail_at_once_and_name_themselves(settings, problem):
    with pytest.raises((ConfigurationError, InputError)) as caught:
        JinaRerank(**settings)
    assert str(caught.value).startswith(problem)
    assert KEY not in str(caught.value) + repr(caught.value)


def test_an_unknown_setting_is_refused():
    with pytest.raises(TypeError, match="top_k"):
        JinaRerank(top_k=3)


@pytest.mark.parametrize(("name", "value"), [*LOCAL.items(), *REMOTE.items(), *HOSTED.items()])
def test_the_models_settings_cannot_be_assigned(backend, name, value):
    rerank = backend.build()
    before = getattr(rerank, name)
    with pytest.raises(ConfigurationError, match=f"^{name} cannot be assigned; .* new") as caught:
        setattr(rerank, name, value)
    assert getattr(rerank, name) == before
    assert KEY not in str(caught.value) + repr(caught.value)
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)][1:]
    assert KEY not in repr([frame.f_locals for frame in frames])


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("top_n", 0, InputError),
        ("threshold", math.nan, InputError),
        ("metadata_mode", "title", ConfigurationError),
        ("metadata_mode", None, ConfigurationError),
    ],
)
def test_a_bad_value_assigned_later_is_refused_at_once(name, value, error):
    rerank = JinaRerank(top_n=3)
    before = getattr(rerank, name)
    with pytest.raises(error, match=name):
        setattr(rerank, name, value)
    assert getattr(rerank, name) == before


def test_a_metadata_mode_may_be_assigned_by_its_value(numbers):
    rerank = JinaRerank()
    rerank.metadata_mode = "none"
    assert rerank.metadata_mode is MetadataMode.NONE
    assert JinaRerank.from_dict(rerank.to_dict()).metadata_mode is MetadataMode.NONE


@pytest.mark.parametrize(
    "settings",
    [{name: value} for name, value in (LOCAL | REMOTE | HOSTED).items()],
    ids=lambda settings: next(iter(settings)),
)
def test_a_reranker_comes_without_other_model_settings(settings):
    with pytest.raises(ConfigurationError, match=f"leave out {next(iter(settings))}") as caught:
        JinaRerank(reranker=Reranker(), **settings)
    assert KEY not in str(caught.value)


@pytest.mark.torch
def test_nothing_is_loaded_before_it_is_needed():
    rerank = JinaRerank(model="/no/such/folder")
    nodes = [NodeWithScore(node=TextNode(text="a"))]
    with pytest.raises(ModelLoadError):
        rerank.warm_up()
    with pytest.raises(RerankError):
        rerank.postprocess_nodes(nodes, query_str="q")


async def test_nothing_is_sent_before_it_is_needed(remote, server, numbers):
    rerank = remote()
    rerank.warm_up()
    await rerank.awarm_up()
    assert server.connections == 0
    rerank.postprocess_nodes(numbers, query_str="q")
    assert server.received == 1


async def test_warm_up_reaches_the_model():
    scorer = FakeScorer()
    rerank = JinaRerank(reranker=Reranker(scorer))
    assert scorer.warm_ups == 0
    rerank.warm_up()
    await rerank.awarm_up()
    assert scorer.warm_ups == 2


async def test_warming_up_again_changes_nothing(backend, numbers):
    rerank = backend.build()
    rerank.warm_up()
    await rerank.awarm_up()
    assert len(rerank.postprocess_nodes(numbers, query_str="q")) == 4


async def test_closing_leaves_a_shared_reranker_open(backend, numbers):
    with_model = backend.reranker()
    rerank = JinaRerank(reranker=with_model)
    rerank.close()
    await rerank.aclose()
    assert len(rerank.postprocess_nodes(numbers, query_str="q")) == 4
    assert len(with_model.rank("q", ["a", "b"])) == 2


@pytest.mark.parametrize("how", ["close", "aclose"])
async def test_closing_lets_go_of_a_model_of_its_own(backend, numbers, how):
    rerank = backend.build()
    rerank.postprocess_nodes(numbers, query_str="q")
    for _ in range(2):
        if how == "close":
            rerank.close()
        else:
            await rerank.aclose()
    with pytest.raises(ConfigurationError, match="closed"):
        rerank.postprocess_nodes(numbers, query_str="q")


async def test_closing_closes_the_connections(remote, server, numbers):
    rerank = remote()
    rerank.postprocess_nodes(numbers, query_str="q")
    assert server.open_connections == 1
    await rerank.aclose()
    assert server.open_connections == 0


@pytest.mark.torch
def test_postprocessors_of_one_model_load_it_once(caplog):
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in ("tea", "coffee")]
    # A dtype that no other test here asks for, so that it is not loaded yet.
    both = [JinaRerank(dtype="bfloat16", top_n=top_n) for top_n in (1, 2)]
    with caplog.at_level(logging.INFO, logger="jina_rerank"):
        found = [rerank.postprocess_nodes(nodes, query_str="coffee?") for rerank in both]
    assert [len(nodes) for nodes in found] == [1, 2]
    assert len([r for r in caplog.records if r.message.startswith("loaded")]) == 1


def test_importing_building_and_asking_a_service_load_neither_torch_nor_transformers(server):
    program = (
        "import sys\n"
        "from llama_index.core.schema import NodeWithScore, TextNode\n"
        "from llama_index.postprocessor.jina_rerank import JinaRerank\n"
        "JinaRerank(top_n=3).to_json()\n"
        "nodes = [NodeWithScore(node=TextNode(text='tea'))]\n"
        f"rerank = JinaRerank(backend='remote', base_url='{server.url}')\n"
        "assert rerank.postprocess_nodes(nodes, query_str='q')[0].text == 'tea'\n"
        "print([m for m in ('torch', 'transformers', 'tokenizers') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_it_lives_beside_the_official_integration():
    official = pytest.importorskip("llama_index.postprocessor.jinaai_rerank")
    assert official.JinaRerank is not JinaRerank
    import llama_index.postprocessor

    assert getattr(llama_index.postprocessor, "__file__", None) is None  # still a namespace


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

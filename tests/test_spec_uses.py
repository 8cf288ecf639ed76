"""Names of models where they are used: real processes, sockets and frameworks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import torch
from families import write_bert, write_reranker
from faults import FaultServer, RateLimited
from haystack import Document as HaystackDocument
from haystack import Pipeline
from judged import DOCUMENTS as COLLECTION
from judged import write_beir
from langchain_core.documents import Document as LangChainDocument
from llama_index.core.schema import NodeWithScore, TextNode
from serve_processes import is_ready, serving
from serving import LiveService, until
from tokenizers import Tokenizer
from typer.testing import CliRunner

from haystack_integrations.components.rankers.jina_rerank import JinaRanker
from jina_rerank import (
    ConfigurationError,
    ModelNotFoundError,
    Reranker,
    ScoreRequest,
)
from jina_rerank.cli.app import app
from jina_rerank.distillation.teachers import TeacherSettings, check_teacher, load_teacher
from jina_rerank.evaluation.spelling import Speller
from jina_rerank.onnx import export_onnx
from jina_rerank.server import Settings
from jina_rerank.server.served import find_models
from jina_rerank.spec import parse
from langchain_jina_rerank import JinaRerank as LangChainRerank
from llama_index.postprocessor.jina_rerank import JinaRerank as LlamaIndexRerank

QUERY = "capital of France"
TEXTS = list(COLLECTION.values())
URL = "http://127.0.0.1:9"
KEY = "jina-0123456789abcdef"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def expected(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Scores of transformers in float64, of the same weights."""
    model = write_reranker(tmp_path_factory.mktemp("again"), "bert")
    tokenizer = Tokenizer.from_file(str(bert / "tokenizer.json"))
    scores = []
    for text in TEXTS:
        encoded = tokenizer.encode(QUERY, text)
        types = torch.tensor(encoded.type_ids)[None]
        with torch.inference_mode():
            logit = model(torch.tensor(encoded.ids)[None], token_type_ids=types).logits
        scores.append(float(logit.squeeze().sigmoid()))
    assert len({round(score, 3) for score in scores}) > 3, "the texts can be told apart"
    return scores


@pytest.fixture(scope="module")
def exported(bert: Path) -> Path:
    folder = bert.with_name("exported")
    export_onnx(bert, folder)
    return folder


def test_a_folder_with_a_graph_and_no_weights_is_run_by_onnx_runtime(
    bert: Path, exported: Path, tmp_path: Path, expected: list[float]
) -> None:
    assert parse(str(exported)).kind == parse(exported).kind == "onnx"
    assert Reranker(exported).score(QUERY, TEXTS) == pytest.approx(expected, abs=1e-4)
    both = tmp_path / "both"
    both.mkdir()
    for folder in (bert, exported):
        for file in folder.iterdir():
            (both / file.name).write_bytes(file.read_bytes())
    assert parse(both).kind == "local", "its weights say more than their export"


def command(*args: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jina_rerank.cli", *args],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )


def ranked(model: str, *options: str) -> list[float]:
    done = command("rank", "-m", model, *options, QUERY, text="\n".join(TEXTS))
    assert done.returncode == 0, done.stderr
    hits = [json.loads(line) for line in done.stdout.splitlines()]
    return [hit["score"] for hit in sorted(hits, key=lambda hit: hit["index"])]


def test_the_command_ranks_with_each_way_of_naming(
    bert: Path, exported: Path, expected: list[float]
) -> None:
    for model in (str(bert), f"onnx:{exported}", str(exported), f"cross-encoder:{bert}"):
        assert ranked(model) == pytest.approx(expected, abs=0.02), model


def test_the_command_ranks_at_a_service_and_refuses_what_it_would_ignore() -> None:
    with FaultServer() as server:
        model = f"remote:m@{server.url}"
        assert len(ranked(model)) == len(TEXTS)
        assert server.requests[0].json["model"] == "m"
        count = len(server.requests)
        done = command("rank", "-m", model, "--max-length", "64", QUERY, text="a")
        assert done.returncode == 2
        assert re.search(r"max.length", done.stderr)
        assert "remote:m" in done.stderr
        assert len(server.requests) == count, "nothing was sent"


def test_an_export_by_the_command_is_named_by_onnx(
    bert: Path, tmp_path: Path, expected: list[float]
) -> None:
    folder = tmp_path / "out"
    assert command("export", str(bert), str(folder)).returncode == 0
    assert ranked(f"onnx:{folder}") == pytest.approx(expected, abs=1e-4)
    assert command("export", f"onnx:{folder}", str(tmp_path / "again")).returncode == 2


def ask(url: str, model: str, key: str = KEY) -> httpx.Response:
    body = {"model": model, "query": QUERY, "documents": TEXTS}
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{url}/v1/rerank", json=body, headers=headers, timeout=60)


def scores_of(answer: httpx.Response) -> list[float]:
    results = sorted(answer.json()["results"], key=lambda one: one["index"])
    return [one["relevance_score"] for one in results]


def test_the_service_serves_each_way_of_naming_and_is_a_gateway(
    bert: Path, exported: Path, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = "own-key-of-the-gateway"
    monkeypatch.setenv("JINA_API_KEY", own)
    with FaultServer() as behind:
        models = (
            f"native={bert}",
            f"fast=cross-encoder:{bert}",
            f"graph=onnx:{exported}",
            f"rerank=remote:m@{behind.url}",
        )
        with LiveService(models=models) as service:
            until(lambda: is_ready(service.url))
            assert httpx.get(f"{service.url}/ping").status_code == 200
            assert behind.requests == [], "neither a start nor a check of health costs a request"
            for name in ("native", "fast", "graph"):
                assert scores_of(ask(service.url, name)) == pytest.approx(expected, abs=0.02), name
            answer = ask(service.url, "rerank")
            assert answer.json()["model"] == "rerank"
            (request,) = behind.requests
            assert request.json["model"] == "m"
            assert request.json["documents"] == TEXTS
            assert request.headers["authorization"] == f"Bearer {own}"
            assert KEY not in str(request.headers)
            with Reranker(f"remote:m@{behind.url}") as direct:
                assert scores_of(answer) == direct.score(QUERY, TEXTS)


def test_a_gateway_passes_on_that_it_is_asked_to_slow_down() -> None:
    with FaultServer() as behind, LiveService(models=(f"r=remote:m@{behind.url}",)) as service:
        until(lambda: is_ready(service.url))
        behind.script(*[RateLimited(retry_after="300")] * 8)
        answer = ask(service.url, "r")
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 300


@pytest.mark.slow
def test_the_serve_command_takes_these_names(bert: Path) -> None:
    with FaultServer() as behind:
        options = ["-m", f"fast=cross-encoder:{bert}", "-m", f"r=remote:m@{behind.url}"]
        with serving(*options) as (_, url):
            until(lambda: is_ready(url))
            listed = [one["id"] for one in httpx.get(f"{url}/v1/models").json()["data"]]
            assert listed == ["fast", "r"]
            assert ask(url, "r").status_code == 200


def test_a_model_to_serve_that_needs_a_collection_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="bm25 needs a collection"):
        find_models(Settings(models=("words=bm25",)))


def by_llama_index(model: str) -> list[float]:
    nodes = [NodeWithScore(node=TextNode(text=text, id_=text)) for text in TEXTS]
    postprocessor = LlamaIndexRerank(model=model)
    again = LlamaIndexRerank.from_dict(postprocessor.to_dict())
    hits = again.postprocess_nodes(nodes, query_str=QUERY)
    scores = {hit.node.node_id: hit.score for hit in hits}
    return [scores[text] or 0.0 for text in TEXTS]


def by_langchain(model: str) -> list[float]:
    documents = [LangChainDocument(page_content=text) for text in TEXTS]
    hits = LangChainRerank(model=model).compress_documents(documents, QUERY)
    scores = {hit.page_content: hit.metadata["relevance_score"] for hit in hits}
    return [scores[text] for text in TEXTS]


def by_haystack(model: str) -> list[float]:
    pipeline = Pipeline()
    pipeline.add_component("ranker", JinaRanker(model, top_k=len(TEXTS)))
    pipeline = Pipeline.loads(pipeline.dumps())
    documents = [HaystackDocument(content=text) for text in TEXTS]
    hits = pipeline.run({"ranker": {"query": QUERY, "documents": documents}})["ranker"]["documents"]
    scores = {hit.content: hit.score for hit in hits}
    return [scores[text] for text in TEXTS]


PLUGINS = [by_llama_index, by_langchain, by_haystack]


@pytest.mark.parametrize("plugin", PLUGINS)
def test_each_plugin_takes_each_way_of_naming(
    plugin: Callable[[str], list[float]], bert: Path, exported: Path, expected: list[float]
) -> None:
    for model in (str(bert), f"cross-encoder:{bert}", f"onnx:{exported}"):
        assert plugin(model) == pytest.approx(expected, abs=0.02), model
    with FaultServer() as server:
        name = f"remote:m@{server.url}"
        with Reranker(name) as direct:
            assert plugin(name) == direct.score(QUERY, TEXTS)
        assert {request.json["model"] for request in server.requests} == {"m"}


def test_a_plugins_key_goes_to_the_service_that_its_model_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from haystack.utils import Secret

    monkeypatch.setenv("OURS", KEY)
    with FaultServer() as server:
        name = f"remote:m@{server.url}"
        nodes = [NodeWithScore(node=TextNode(text="a"))]
        LlamaIndexRerank(model=name, api_key=KEY).postprocess_nodes(nodes, query_str="q")
        documents = [LangChainDocument(page_content="a")]
        LangChainRerank(model=name, api_key=KEY).compress_documents(documents, "q")
        ranker = JinaRanker(name, api_key=Secret.from_env_var("OURS"))
        ranker.run("q", [HaystackDocument(content="a")])
        assert [r.headers["authorization"] for r in server.requests] == [f"Bearer {KEY}"] * 3


def test_a_plugin_refuses_settings_that_its_model_does_not_have() -> None:
    name = f"remote:m@{URL}"
    for plugin in (LlamaIndexRerank, LangChainRerank, JinaRanker):
        with pytest.raises(ConfigurationError, match="max_length: remote:m does not have"):
            plugin(model=name, max_length=64)
        with pytest.raises(ConfigurationError, match="timeout: applies to services only"):
            plugin(model="cross-encoder:a/b", timeout=3.0)
        with pytest.raises(ConfigurationError, match="base_url: remote:m has an address"):
            plugin(model=name, base_url=URL)
        with pytest.raises(ConfigurationError, match=r"leave out .remote:"):
            plugin(model=name, backend="remote", base_url=URL)


def test_an_evaluation_takes_each_way_of_naming(bert: Path, exported: Path, tmp_path: Path) -> None:
    data = str(write_beir(tmp_path / "places"))
    names = [str(bert), f"onnx:{exported}", f"cross-encoder:{bert}", "bm25"]
    options = [part for name in names for part in ("-m", name)]
    done = command("eval", data, *options, "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stderr
    for name in names:
        assert f"| {name} |" in done.stdout


def test_an_evaluation_refuses_a_length_that_no_model_has(tmp_path: Path) -> None:
    speller = Speller(COLLECTION, max_length=64)
    with pytest.raises(ConfigurationError, match=r"max_length: remote:m@.* does not have"):
        speller.build_all([f"remote:m@{URL}", "bm25"])
    assert len(speller.build_all([f"remote:m@{URL}", "mini"])) == 2
    assert len(speller.build_all(["bi-encoder:a/b"])) == 1
    with pytest.raises(ConfigurationError, match="long_documents: bm25 does not have"):
        Speller(COLLECTION, long_documents="chunk").build_all(["bm25"])
    assert len(Speller(COLLECTION, long_documents="chunk").build_all(["bi-encoder:a/b"])) == 1


def test_a_recipes_teacher_takes_each_way_of_naming(
    bert: Path, exported: Path, expected: list[float]
) -> None:
    for model in (str(bert), f"cross-encoder:{bert}", f"onnx:{exported}"):
        recipe = TeacherSettings(name="t", model=model)
        check_teacher(recipe, torch.float32)
        teacher = load_teacher(recipe, (), torch.float32)
        (answer,) = teacher.score([ScoreRequest(QUERY, TEXTS)])
        scores = answer.scores
        order = sorted(range(len(TEXTS)), key=lambda i: -scores[i])
        assert order == sorted(range(len(TEXTS)), key=lambda i: -expected[i])


@pytest.mark.parametrize("model", ["/nosuch", "./nosuch", "onnx:/nosuch", "cross-encoder:/nosuch"])
def test_a_name_that_no_model_has_is_said_as_it_was_written(model: str) -> None:
    result = CliRunner().invoke(app, ["rank", "-m", model, QUERY], input="a\n")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"jina-rerank: {model.removeprefix('cross-encoder:')}: ")
    with pytest.raises(ModelNotFoundError):
        Reranker(model).warm_up()

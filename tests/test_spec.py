"""One string names a model, wherever a model is named."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
import torch
from families import write_reranker
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
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from haystack_integrations.components.rankers.jina_rerank import JinaRanker
from jina_rerank import (
    AuthenticationError,
    BiEncoderScorer,
    Bm25Scorer,
    ConfigurationError,
    CrossEncoderScorer,
    LocalScorer,
    ModelLoadError,
    ModelNotFoundError,
    OnnxScorer,
    RemoteScorer,
    Reranker,
    SageMakerScorer,
    ScoreRequest,
    SparseEncoderScorer,
)
from jina_rerank.cli.app import app
from jina_rerank.distillation.teachers import TeacherSettings, check_teacher, load_teacher
from jina_rerank.evaluation.spelling import Speller
from jina_rerank.onnx import export_onnx
from jina_rerank.plugin import build_reranker
from jina_rerank.scorers.service.dialects import DialectName, find_dialect
from jina_rerank.server import Settings
from jina_rerank.server.served import find_models
from jina_rerank.spec import (
    Spec,
    checkpoint_of,
    collection_scorer_of,
    name_of_path,
    parse,
    scorer_of,
    split_served,
)
from langchain_jina_rerank import JinaRerank as LangChainRerank
from llama_index.postprocessor.jina_rerank import JinaRerank as LlamaIndexRerank

QUERY = "capital of France"
TEXTS = list(COLLECTION.values())
URL = "http://127.0.0.1:9"
KEY = "jina-0123456789abcdef"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT reranker, as transformers saves one."""
    folder = tmp_path_factory.mktemp("models") / "bert"
    write_reranker(folder, "bert")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    return folder


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


@pytest.mark.parametrize(
    ("name", "spec", "kind", "model"),
    [
        (None, Spec("embedded"), LocalScorer, "jina-rerank-mini"),
        ("mini", Spec("embedded"), LocalScorer, "jina-rerank-mini"),
        ("jina-rerank-mini", Spec("embedded"), LocalScorer, "jina-rerank-mini"),
        ("./mini", Spec("local", "./mini"), LocalScorer, "./mini"),
        (Path("mini"), Spec("local", Path("mini")), LocalScorer, "mini"),
        ("org/name", Spec("local", "org/name"), LocalScorer, "org/name"),
        ("./a:b", Spec("local", "./a:b"), LocalScorer, "./a:b"),
        ("../remote:m", Spec("local", "../remote:m"), LocalScorer, "../remote:m"),
        ("/models/a:b", Spec("local", "/models/a:b"), LocalScorer, "/models/a:b"),
        ("~/a:b", Spec("local", "~/a:b"), LocalScorer, "~/a:b"),
        ("models/a:b", Spec("local", "models/a:b"), LocalScorer, "models/a:b"),
        (Path("onnx:x"), Spec("local", Path("onnx:x")), LocalScorer, "onnx:x"),
        ("C:\\models\\x", Spec("local", "C:\\models\\x"), LocalScorer, "C:\\models\\x"),
        ("d:/models/x", Spec("local", "d:/models/x"), LocalScorer, "d:/models/x"),
        ("cross-encoder:a/b", Spec("cross-encoder", "a/b"), CrossEncoderScorer, "a/b"),
        ("cross-encoder:./a:b", Spec("cross-encoder", "./a:b"), CrossEncoderScorer, "./a:b"),
        ("onnx:folder", Spec("onnx", "folder"), OnnxScorer, "folder"),
        ("onnx:mini", Spec("onnx", "mini"), OnnxScorer, "jina-rerank-mini"),
        (f"remote:m@{URL}", Spec("remote", "m", URL), RemoteScorer, "m"),
        (f"remote:o/m:v2@{URL}/v1", Spec("remote", "o/m:v2", f"{URL}/v1"), RemoteScorer, "o/m:v2"),
        (f"remote:@{URL}", Spec("remote", None, URL), RemoteScorer, "jina-reranker-v3.5"),
        ("sagemaker:turbo-1", Spec("sagemaker", "turbo-1"), SageMakerScorer, "turbo-1"),
    ],
)
def test_a_name_means_one_scorer(
    name: str | Path | None, spec: Spec, kind: type, model: str
) -> None:
    assert parse(name) == spec
    scorer = scorer_of(name)
    assert type(scorer) is kind
    assert scorer.model == model
    assert type(Reranker(name).scorer) is kind


@pytest.mark.parametrize(
    ("name", "kind", "model"),
    [
        ("bm25", Bm25Scorer, "bm25"),
        ("bi-encoder:a/b", BiEncoderScorer, "a/b"),
        ("sparse-encoder:./a:b", SparseEncoderScorer, "./a:b"),
        ("mini", LocalScorer, "jina-rerank-mini"),
    ],
)
def test_with_a_collection_what_searches_it_can_be_named(name: str, kind: type, model: str) -> None:
    scorer = collection_scorer_of(name, TEXTS)
    assert type(scorer) is kind
    assert scorer.model == model


def test_an_encoders_options_are_its_own() -> None:
    scorer = collection_scorer_of(
        "bi-encoder:a/b", (), query_prompt="q: ", max_length=64, dtype="bfloat16"
    )
    for said in ('"q: "', '"max_length": 64', '"bfloat16"'):
        assert said in scorer.fingerprint
    with pytest.raises(ConfigurationError, match="query_prompt: jina-rerank-mini does not have"):
        collection_scorer_of("mini", (), query_prompt="q: ")
    with pytest.raises(ConfigurationError, match="max_length: bm25 does not have this option"):
        collection_scorer_of("bm25", (), max_length=64)


def test_a_hosted_model_needs_a_key_and_takes_the_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    monkeypatch.delenv("JINAAI_API_KEY", raising=False)
    with pytest.raises(AuthenticationError, match="there is no key for https://api"):
        Reranker("remote:jina-reranker-v3.5")
    given = scorer_of("remote:jina-reranker-v3.5", api_key=KEY)
    monkeypatch.setenv("JINA_API_KEY", KEY)
    for scorer in (given, Reranker("remote:jina-reranker-v3.5").scorer):
        assert scorer.model == "jina-reranker-v3.5"
        assert "api.jina.ai" in repr(scorer)
        assert KEY not in repr(scorer)


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


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "is blank"),
        (" ", "is blank"),
        ("cross-encodr:a/b", "'cross-encodr' before the colon is not known; there are cross-enc"),
        ("http://127.0.0.1:8000", "'http' before the colon is not known"),
        ("Remote:m", "'Remote' before the colon is not known"),
        (":m", "'' before the colon is not known"),
        ("cross-encoder:", "lacks a name behind the colon"),
        ("onnx: ", "model: ' ' is blank"),
        ("sagemaker:", "lacks a name behind the colon"),
        ("remote:", "lacks a name behind the colon"),
        ("remote:m@", "lacks an address behind the @"),
        ("remote: @http://x", "model: ' ' is blank"),
        ("remote:m@127.0.0.1:80", "base_url must be an address"),
        ("remote:\udcff@http://x", "half of a character"),
        ("cross-encoder:mini", "which sentence-transformers does not run"),
        ("sagemaker:arn:aws:x/turbo", "not its ARN"),
        ("bm25", "model: bm25 needs a collection"),
        ("bi-encoder:a/b", "model: bi-encoder:a/b needs a collection"),
        ("sparse-encoder:a/b", "model: sparse-encoder:a/b needs a collection"),
    ],
)
def test_a_name_that_means_nothing_here_is_refused(name: str, said: str) -> None:
    for door in (scorer_of, Reranker, lambda name: build_reranker(model=name)):
        with pytest.raises(ConfigurationError, match=re.escape(said)):
            door(name)


def test_an_unknown_prefix_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse("tei:m")
    for known in (
        "cross-encoder:",
        "onnx:",
        "remote:",
        "sagemaker:",
        "bi-encoder:",
        "sparse-",
        "./NAME",
    ):
        assert known in str(refused.value)


def test_an_error_does_not_show_a_password_in_an_address() -> None:
    for name in ("remote:m@http://me:hunter22@host/v1", "http://me:hunter22@host/v1"):
        with pytest.raises(ConfigurationError) as refused:
            scorer_of(name)
        assert "hunter22" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x" * 300, "File name too long"),
        (f"org/{'x' * 5000}", "File name too long"),
        ("~nobody-has-this-name/model", "no such user"),
        ("jina-reranker-" + "x" * 300, "is a name of Jina's hosted service"),
    ],
)
def test_a_name_that_no_folder_can_have_is_an_error_with_a_type(name: str, said: str) -> None:
    for door in (parse, scorer_of, Reranker, lambda name: build_reranker(model=name)):
        with pytest.raises((ConfigurationError, ModelNotFoundError), match=said):
            door(name)
    (line,) = command("rank", "-m", name, QUERY, text="a").stderr.splitlines()
    assert re.search(said, line)


@pytest.mark.parametrize(
    "kind", [LocalScorer, OnnxScorer, CrossEncoderScorer, BiEncoderScorer, SparseEncoderScorer]
)
@pytest.mark.parametrize("as_path", [str, Path])
def test_a_scorer_of_a_name_that_no_folder_can_have_is_refused(kind: Any, as_path: Any) -> None:
    for name in ("x" * 300, "~nobody-has-this-name/model"):
        with pytest.raises(ModelNotFoundError, match="no such folder"):
            kind(as_path(name))


def test_a_long_name_of_a_service_or_of_a_served_model_is_no_folder() -> None:
    assert parse(f"remote:{'m' * 300}@{URL}").name == "m" * 300
    assert split_served(f"m=remote:{'m' * 300}@{URL}") == ("m", f"remote:{'m' * 300}@{URL}")


def test_what_is_no_name_is_refused() -> None:
    for door in (parse, scorer_of, Reranker):
        with pytest.raises(ConfigurationError, match=r"model must be .* not int"):
            door(3)  # type: ignore[arg-type]


REFUSED = {
    "remote:m@" + URL: {
        "dtype": "float32",
        "device": "cpu",
        "max_length": 512,
        "long_documents": "chunk",
        "revision": "main",
    },
    "sagemaker:turbo": {"dtype": "float32", "max_length": 512, "api_key": KEY, "dialect": "tei"},
    "onnx:folder": {"dtype": "float32", "device": "cpu", "revision": "main", "timeout": 3.0},
    "org/name": {"api_key": KEY, "base_url": URL, "timeout": 3.0, "max_retries": 0},
    "cross-encoder:a/b": {"api_key": KEY, "dialect": "jina", "timeout": 3.0},
}


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [(name, *option) for name, options in REFUSED.items() for option in options.items()],
)
def test_an_option_that_a_scorer_does_not_have_is_refused(
    name: str, option: str, value: Any
) -> None:
    shown = name.partition("@")[0]
    said = rf"{option}: {shown} does not have this option, which is for .*; leave it out"
    with pytest.raises(ConfigurationError, match=said) as refused:
        scorer_of(name, **{option: value})
    assert KEY not in str(refused.value)
    scorer_of(name)


def test_each_scorer_is_given_the_options_that_it_has() -> None:
    here = scorer_of("org/name", dtype="float32", device="cpu", max_length=64)
    assert "dtype='float32', device='cpu', max_length=64" in repr(here)
    exported = scorer_of("onnx:folder", max_length=64, long_documents="chunk")
    assert "max_length=64, long_documents='chunk'" in repr(exported)
    remote = scorer_of("remote:m", base_url=URL, dialect="tei", timeout=3)
    assert all(part in repr(remote) for part in (URL, "'tei'", "timeout=3"))
    assert "timeout=5" in repr(scorer_of("sagemaker:turbo", timeout=5))
    with pytest.raises(ConfigurationError, match="base_url: remote:m has an address in its name"):
        scorer_of(f"remote:m@{URL}", base_url=URL)


def test_every_option_is_one_of_the_scorers() -> None:
    options = set(inspect.signature(scorer_of).parameters) - {"model"}
    known: set[str] = set()
    for kind in (LocalScorer, RemoteScorer):
        known |= set(inspect.signature(kind.__init__).parameters)
    assert options <= known


WITHOUT = """
import sys
for name in {missing!r}:
    sys.modules[name] = None
from jina_rerank import Reranker, ConfigurationError
from jina_rerank.spec import scorer_of
try:
    print(type(Reranker().scorer).__name__)
    scorer_of("mini", dtype="float32")
except ConfigurationError as error:
    print(error)
"""


def without(*missing: str) -> str:
    code = WITHOUT.format(missing=missing)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_the_embedded_model_runs_in_what_is_installed() -> None:
    assert without() == "LocalScorer\n"
    said = without("torch")
    assert said.startswith("OnnxScorer\ndtype: jina-rerank-mini in ONNX Runtime does not have")
    neither = without("torch", "onnxruntime")
    assert 'pip install "jina-rerank[local]"' in neither
    assert 'pip install "jina-rerank[onnx]"' in neither


def test_a_family_that_the_engine_does_not_run_is_told_with_the_name_that_would(
    tmp_path: Path,
) -> None:
    write_reranker(tmp_path, "bert")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "deberta-v2"}))
    with pytest.raises(ModelLoadError) as refused:
        Reranker(tmp_path).warm_up()
    name = str(refused.value).split()[-1]
    assert name == f"cross-encoder:{tmp_path}"
    assert type(scorer_of(name)) is CrossEncoderScorer


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (Path("mini"), "./mini"),
        (Path("bm25"), "./bm25"),
        (Path("onnx:x"), "./onnx:x"),
        (Path("ab:c"), "./ab:c"),
        (Path("/a:b"), "/a:b"),
        (Path("a"), "a"),
    ],
)
def test_a_path_stays_a_path_as_a_string(path: Path, name: str) -> None:
    assert name_of_path(path) == name
    assert parse(name).kind == "local"


@pytest.mark.parametrize(
    ("entry", "served"),
    [
        ("fast=cross-encoder:a/b", ("fast", "cross-encoder:a/b")),
        (f"rerank=remote:m@{URL}", ("rerank", f"remote:m@{URL}")),
        (f"remote:m@{URL}/a=b", (f"remote:m@{URL}/a=b", f"remote:m@{URL}/a=b")),
        ("onnx:epochs=3", ("onnx:epochs=3", "onnx:epochs=3")),
        ("v1:fast=mini", ("v1:fast", "mini")),
    ],
)
def test_a_served_model_and_its_name(entry: str, served: tuple[str, str]) -> None:
    assert split_served(entry) == served


def test_a_checkpoint_is_a_folder_or_a_hub_id(exported: Path) -> None:
    assert checkpoint_of("mini") is None
    assert checkpoint_of("org/name") == "org/name"
    for name in (f"onnx:{exported}", str(exported)):
        with pytest.raises(ConfigurationError, match="is an ONNX export; name the checkpoint"):
            export_onnx(name, "new")
    for name in ("cross-encoder:a/b", "remote:m", "bm25"):
        with pytest.raises(ConfigurationError, match=f"{name} is no checkpoint that runs nat"):
            export_onnx(name, "new")
    assert not Path("new").exists()


# From here on: real processes, sockets and frameworks.


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
        behind.script(*[RateLimited(retry_after="40")] * 8)
        answer = ask(service.url, "r")
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 40


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


def test_nobody_asks_a_dialect_for_its_name() -> None:
    project = Path(__file__).parents[1]
    roots = [project / "src", *(project / "integrations").glob("*/src")]
    files = [file for root in roots for file in root.rglob("*.py")]
    compared = [
        f"{file}: {ast.unparse(node)}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        and "kind" not in ast.unparse(node)  # of a scorer, one of which has a dialect's name
        and any(
            isinstance(side, ast.Constant) and side.value in get_args(DialectName)
            for side in (node.left, *node.comparators)
        )
    ]
    assert len(files) > 150
    assert not compared


@pytest.mark.parametrize("dialect", get_args(DialectName))
def test_a_dialect_says_which_keys_and_models_it_wants(
    dialect: DialectName, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = find_dialect(dialect)
    for variable in spoken.key_variables:
        monkeypatch.setenv(variable, KEY)
    scorer = partial(RemoteScorer, base_url=URL, dialect=dialect)
    if spoken.needs_model and spoken.default_model is None:
        with pytest.raises(ConfigurationError, match="model is missing"):
            scorer()
    assert ("no key" in repr(scorer("m"))) == (not spoken.key_variables)

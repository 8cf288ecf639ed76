"""One string names a model, wherever a model is named."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
from families import write_bert, write_reranker
from judged import DOCUMENTS as COLLECTION
from typer.testing import CliRunner

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
    SparseEncoderScorer,
)
from jina_rerank.cli.app import app
from jina_rerank.onnx import export_onnx
from jina_rerank.plugin import build_reranker
from jina_rerank.scorers.service.dialects import DialectName, find_dialect
from jina_rerank.spec import (
    Spec,
    checkpoint_of,
    collection_scorer_of,
    name_of_path,
    parse,
    scorer_of,
    split_served,
)

QUERY = "capital of France"
TEXTS = list(COLLECTION.values())
URL = "http://127.0.0.1:9"
KEY = "jina-0123456789abcdef"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("models") / "bert")


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
    result = CliRunner().invoke(app, ["rank", "-m", name, QUERY], input="a")
    (line,) = result.stderr.splitlines()
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

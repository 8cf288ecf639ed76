"""Scorers on a machine that lacks a package: `None` in `sys.modules` is what Python finds there."""

import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from jina_rerank import (
    CachedScorer,
    ConfigurationError,
    CrossEncoderScorer,
    FallbackScorer,
    LocalScorer,
    OnnxScorer,
    RemoteScorer,
    Reranker,
    RetrievalOrder,
    SageMakerScorer,
)
from jina_rerank.plugin import build_reranker, check_installed


def remote() -> RemoteScorer:
    return RemoteScorer(base_url="http://localhost")


@pytest.mark.parametrize(
    ("package", "build", "extra"),
    [
        ("torch", LocalScorer, "local"),
        ("tokenizers", lambda: LocalScorer("org/name"), "local"),
        ("safetensors", LocalScorer, "local"),
        ("huggingface_hub", lambda: LocalScorer("org/name"), "local"),
        ("onnxruntime", lambda: OnnxScorer("folder"), "onnx"),
        ("onnx", OnnxScorer, "onnx"),
        ("sentence_transformers", lambda: CrossEncoderScorer("org/name"), "cross-encoder"),
        ("boto3", lambda: SageMakerScorer("endpoint"), "sagemaker"),
        ("torch", lambda: FallbackScorer(remote(), LocalScorer()), "local"),
        ("torch", lambda: CachedScorer(LocalScorer()), "local"),
        (
            "onnxruntime",
            lambda: FallbackScorer(CachedScorer(remote()), OnnxScorer(), RetrievalOrder()),
            "onnx",
        ),
    ],
)
def test_a_scorer_says_which_package_it_lacks_and_which_extra_brings_it(
    package: str,
    build: Callable[[], LocalScorer],
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reranker = Reranker(build())
    assert check_installed(reranker) is reranker
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError) as caught:
        check_installed(reranker)
    assert f"needs {package}, which is not installed: " in str(caught.value)
    assert str(caught.value).endswith(f'pip install "jina-rerank[{extra}]"')


def test_a_plugins_local_model_needs_its_packages_when_it_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigurationError, match="a local model needs torch, which is not"):
        build_reranker(model="org/name")
    assert build_reranker().model == "jina-rerank-mini"  # by ONNX Runtime
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigurationError, match="torch or ONNX Runtime, and neither"):
        build_reranker()
    assert build_reranker(backend="remote", base_url="http://localhost").model


def test_a_plugins_embedded_model_must_be_installed_when_it_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "jina_rerank_mini", None)
    with pytest.raises(ConfigurationError, match="pip install jina-rerank-mini"):
        build_reranker()
    assert build_reranker(model="org/name").model == "org/name"


def test_whatever_lacks_an_extra_says_so_in_one_way() -> None:
    program = """
import sys
for package in ("fastapi", "onnx", "h2", "ray", "jina_rerank.distillation.run"):
    sys.modules[package] = None
from typer.testing import CliRunner
from jina_rerank import ConfigurationError, RemoteScorer
from jina_rerank.cli.app import app
for command in (["serve"], ["distill", "recipe.toml", "-o", "out"], ["export", "mini", "new"]):
    result = CliRunner().invoke(app, command)
    print(result.exit_code, result.stderr.strip().replace("\\n", " "))
def ray():
    import jina_rerank.ray
for use in (RemoteScorer("m", base_url="http://localhost", http2=True).warm_up, ray):
    try:
        use()
    except ConfigurationError as error:
        print(2, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    said = done.stdout.splitlines()
    assert len(said) == 5, done.stderr
    for line in said:
        assert re.fullmatch(r"2 .*needs [\w.]+, which is not installed: pip install \S+", line), (
            line
        )

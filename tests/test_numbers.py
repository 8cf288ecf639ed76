"""Settings of scorers and systems that are numbers: finite and in range, or refused by name."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from serving import LiveService

from jina_rerank import (
    BiEncoderScorer,
    CachedScorer,
    FallbackScorer,
    RemoteScorer,
    Reranker,
    SageMakerScorer,
    SparseEncoderScorer,
)
from jina_rerank.errors import ConfigurationError
from jina_rerank.plugin import build_reranker
from jina_rerank.testing import FakeScorer

NO_TIME = [math.nan, math.inf, -math.inf, -1, 0, 1e300, 10**400, 1_000_001, True, "3", None]
NO_COUNT = [math.nan, math.inf, -1, 2.0, 2**63, 10**4000, True, "3"]


def remote(**settings: object) -> RemoteScorer:
    return RemoteScorer(**{"base_url": "http://127.0.0.1:9", **settings})


def sagemaker(**settings: object) -> SageMakerScorer:
    return SageMakerScorer("endpoint", **settings)


@pytest.mark.parametrize("build", [remote, sagemaker])
@pytest.mark.parametrize("name", ["timeout", "connect_timeout", "read_timeout"])
@pytest.mark.parametrize("value", NO_TIME, ids=lambda value: f"{value!r:.8}")
def test_a_client_s_seconds(build, name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} must be a number of seconds above 0"):
        build(**{name: value})


@pytest.mark.parametrize("build", [remote, sagemaker])
@pytest.mark.parametrize("name", ["max_retries", "max_concurrency", "max_documents", "max_bytes"])
@pytest.mark.parametrize("value", NO_COUNT, ids=lambda value: type(value).__name__)
def test_a_client_s_counts(build, name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} must be a whole number"):
        build(**{name: value})


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400])
def test_a_plugin_s_timeout(value: float) -> None:
    with pytest.raises(ConfigurationError, match=r"^timeout must be"):
        build_reranker(backend="remote", base_url="http://127.0.0.1:9", timeout=value)


@pytest.mark.parametrize("value", [math.inf, 10**400, 1e300])
def test_a_fallback_s_cooldown(value: float) -> None:
    with pytest.raises(ConfigurationError, match=r"^cooldown must be"):
        FallbackScorer(FakeScorer(), FakeScorer(), cooldown=value)


@pytest.mark.parametrize("value", [2**63, math.nan, 0])
def test_a_cache_s_size(value: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^max_entries must be"):
        CachedScorer(remote(), path=tmp_path / "cache", max_entries=value)


@pytest.mark.parametrize("kind", [BiEncoderScorer, SparseEncoderScorer])
def test_an_encoders_longest_text(kind: type[BiEncoderScorer]) -> None:
    with pytest.raises(ConfigurationError, match=r"^max_length must be"):
        kind("model", max_length=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("actors", 0),
        ("actors", math.nan),
        ("num_cpus", math.nan),
        ("num_cpus", -1),
        ("num_gpus", math.inf),
        ("num_gpus", "1"),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of Ray's, when it is imported
def test_a_cluster_s_processes(name: str, value: object, tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    from jina_rerank.ray import rerank_dataset

    with pytest.raises(ConfigurationError, match=f"^{name} must be"):
        rerank_dataset(tmp_path, tmp_path / "out", model=FakeScorer(), **{name: value})


def test_the_longest_times_and_numpy_s_numbers_work(small_checkpoint: Path) -> None:
    times = dict.fromkeys(("timeout", "connect_timeout", "read_timeout"), np.float32(1_000_000))
    with (
        LiveService(models=(f"small={small_checkpoint}",)) as service,
        Reranker(
            remote(model="small", base_url=service.url, max_bytes=np.int64(1000), **times)
        ) as reranker,
    ):
        assert len(reranker.rank("panda", ["bear", "coffee"])) == 2

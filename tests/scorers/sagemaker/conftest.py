"""An endpoint on SageMaker, as boto3 finds it on the loopback."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aws import KEY_ID, SECRET_KEY, TOKEN
from faults import FaultServer

from jina_rerank import SageMakerScorer

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials and a region in the environment, and nothing of this machine's own."""
    for name in [name for name in os.environ if name.upper().startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    with FaultServer() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", server.url)
        yield server


@pytest.fixture
def build() -> Iterator[Callable[..., SageMakerScorer]]:
    """Scorers of endpoints that no other test has used up the retries of."""
    built: list[SageMakerScorer] = []

    def build(**options: object) -> SageMakerScorer:
        defaults = {"timeout": 10.0, "max_retries": 0}
        built.append(SageMakerScorer(f"endpoint-{next(_numbers)}", **{**defaults, **options}))
        return built[-1]

    yield build
    for scorer in built:
        scorer.close()

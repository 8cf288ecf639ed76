"""An endpoint on SageMaker, as boto3 finds it on the loopback."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aws import use_aws_environment
from faults import FaultServer

from jina_rerank import SageMakerScorer

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_aws_environment(monkeypatch, tmp_path)


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

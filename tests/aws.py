"""Helpers for tests of a SageMaker endpoint: AWS's answers, and calls of a scorer."""

import os
import subprocess
import sys
import textwrap
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import Status

from jina_rerank import RerankError, SageMakerScorer, ScoreRequest

KEY_ID, SECRET_KEY, TOKEN = "AKIDEXAMPLE01234", "k3y/that+nobody+may+see", "t0ken/nor+this+one"
QUERY = "where is the dog"
TEXTS = ["the dog is in my house", "he likes dog", "bread is baked", "kaffee für zwei", "\u2028"]
PATIENCE = 20.0
"""Seconds, far less than what is waited for if something waits that should not."""


def use_aws_environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Credentials and a region in the environment, and nothing of this machine's own."""
    for name in [name for name in os.environ if name.upper().startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")


def aws_answer(status: int, code: str, message: str = "told by AWS", **more: object) -> Status:
    headers = {"x-amzn-errortype": code, "x-amzn-requestid": "RID-1"}
    return Status(status, {"Message": message, **more}, headers)


def container_answer(status: int, body: str = "told by the container") -> Status:
    said = f'Received client error ({status}) from primary with message "{body}".'
    return aws_answer(424, "ModelError", said, OriginalStatusCode=status, OriginalMessage=body)


def scores_of(scorer: SageMakerScorer, texts: list[str]) -> list[float]:
    return list(scorer.score([ScoreRequest(QUERY, texts)])[0].scores)


def failure_of(scorer: SageMakerScorer, texts: list[str] = TEXTS) -> RerankError:
    with pytest.raises(RerankError) as caught:
        scores_of(scorer, texts)
    return caught.value


def everything_about(error: BaseException) -> str:
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "\n".join([*told.format(), repr(error), repr(error.args), str(vars(error))])


def run_python(source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )


def wait_until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)

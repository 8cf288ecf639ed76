"""The documentation's way of deploying on Amazon SageMaker, as far as it can be run without it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from jina_rerank.server import Settings

PAGE = Path(__file__).parents[2] / "docs" / "dialects.md"
ARN = "arn:aws:sagemaker:eu-central-1:123456789012:"


def test_aws_would_understand_it(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```py\n(import boto3\n.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    client = boto3.client(
        "sagemaker",
        region_name="eu-central-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
    )
    sent: dict[str, dict[str, Any]] = {}
    client.meta.events.register(
        "provide-client-params.sagemaker.*",
        lambda params, model, **_: sent.update({model.name: params}),
    )
    monkeypatch.setattr(boto3, "client", lambda name: client)
    with Stubber(client) as stubber:  # which holds every parameter against AWS's own description
        stubber.add_response("create_model", {"ModelArn": f"{ARN}model/reranker"})
        stubber.add_response("create_endpoint_config", {"EndpointConfigArn": f"{ARN}config/it"})
        stubber.add_response("create_endpoint", {"EndpointArn": f"{ARN}endpoint/reranker"})
        exec(block, {})
        stubber.assert_no_pending_responses()
    variant = sent["CreateEndpointConfig"]["ProductionVariants"][0]
    assert variant["ModelName"] == sent["CreateModel"]["ModelName"]
    assert (
        sent["CreateEndpoint"]["EndpointConfigName"]
        == sent["CreateEndpointConfig"]["EndpointConfigName"]
    )
    settings = Settings.read({}, sent["CreateModel"]["PrimaryContainer"]["Environment"])
    assert settings.models == ("jina-reranker-v1-turbo-en=/opt/ml/model",)
    assert (settings.host, settings.port, settings.has_keys) == ("0.0.0.0", 8080, False)

"""Credentials are boto3's affair: where they come from, and that they stay there."""

import copy
import json
import logging
import pickle
import sys

import boto3
import pytest
from aws import (
    KEY_ID,
    QUERY,
    SECRET_KEY,
    TEXTS,
    TOKEN,
    aws_answer,
    container_answer,
    everything_about,
    failure_of,
    scores_of,
)
from dialect_answers import score
from faults import CloseMidBody, Hang, Html, HugeBody, ResetBefore, Status
from loopback import SeenRequest

from jina_rerank import AuthenticationError, ConfigurationError


def test_no_credentials_and_then_some(server, build, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    scorer = build()
    with pytest.raises(AuthenticationError, match="boto3 looks for them"):
        scorer.warm_up()
    assert type(failure_of(scorer)) is AuthenticationError
    assert server.received == 0
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    assert type(failure_of(scorer)) is AuthenticationError  # half of them
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    assert scores_of(scorer, TEXTS[:1]) == [score(QUERY, TEXTS[0])]


SSO = """
[default]
sso_start_url = https://example.invalid/start
sso_region = eu-central-1
sso_account_id = 123456789012
sso_role_name = reader
"""
PROCESS = f"""
[default]
credential_process = echo {SECRET_KEY}
"""
ROLE = f"""
[profile source]
aws_access_key_id = {KEY_ID}
aws_secret_access_key = {SECRET_KEY}
[default]
role_arn = arn:aws:iam::123456789012:role/reader
source_profile = source
"""
DENIED = """<ErrorResponse><Error><Type>Sender</Type><Code>ValidationError</Code>
<Message>Value at 'roleArn' failed to satisfy constraint</Message></Error>
<RequestId>RID-2</RequestId></ErrorResponse>"""


@pytest.mark.parametrize(
    ("config", "words"), [(SSO, "SSO"), (PROCESS, "JSONDecodeError"), (ROLE, "AssumeRole")]
)
def test_credentials_that_cannot_be_had(server, build, monkeypatch, tmp_path, config, words):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(config)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
    server.default = Status(403, DENIED, {"content-type": "text/xml"})
    error = failure_of(build())
    assert type(error) is AuthenticationError
    assert words in str(error)
    assert SECRET_KEY not in everything_about(error)
    assert all(request.path == "/" for request in server.requests)


def test_no_region(server, build, monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    scorer = build()
    with pytest.raises(ConfigurationError, match="Pass region_name"):
        scorer.warm_up()
    with pytest.raises(ConfigurationError, match="Pass region_name"):
        scores_of(scorer, TEXTS)
    assert scores_of(build(region_name="eu-west-1"), TEXTS[:1]) == [score(QUERY, TEXTS[0])]
    assert "/eu-west-1/" in server.requests[-1].headers["authorization"]


def test_no_boto3(build, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigurationError, match=r'pip install "jina-rerank\[sagemaker\]"'):
        build().warm_up()


def test_no_such_profile(server, build, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "absent")
    assert type(failure_of(build())) is ConfigurationError


def echo(request: SeenRequest) -> Status:
    """AWS's own answer to a wrong signature quotes the headers that were signed."""
    signed = json.dumps(dict(request.headers))
    return aws_answer(403, "InvalidSignatureException", f"The canonical string is {signed}"[:450])


@pytest.mark.parametrize(
    "choose",
    [
        echo,
        lambda r: container_answer(400, f"{r.headers['x-amz-security-token']} is strange"),
        lambda r: container_answer(500, "boom"),
        lambda r: Status(200, r.headers["x-amz-security-token"]),
        lambda _: Html(200),
        lambda _: HugeBody(8),
        lambda _: ResetBefore(),
        lambda _: Hang(),
        lambda _: CloseMidBody(),
    ],
)
def test_credentials_are_nowhere_to_be_read(server, build, caplog, choose):
    server.choose = choose
    scorer = build(read_timeout=0.2, max_retries=1)
    with caplog.at_level(logging.INFO):
        error = failure_of(scorer)
    told = everything_about(error)
    assert "site-packages/boto" not in told
    told += caplog.text + repr(scorer)
    told += repr(pickle.dumps(scorer)) + repr(pickle.dumps(error)) + repr(scorer.__dict__)
    assert "endpoint-" in told
    for secret in (KEY_ID, SECRET_KEY, TOKEN, "Signature="):
        assert secret not in told


def test_the_secret_key_is_in_no_log_not_even_boto3s_own(server, build, caplog):
    with caplog.at_level(logging.DEBUG):
        scores_of(build(), TEXTS)
    assert "botocore" in caplog.text
    assert SECRET_KEY not in caplog.text


def test_a_session_of_ones_own(server, build):
    session = boto3.Session("AKIDOTHER", "other-secret", region_name="us-east-2")
    scorer = build(session=session)
    assert scores_of(copy.deepcopy(scorer), TEXTS[:1]) == [score(QUERY, TEXTS[0])]
    assert "Credential=AKIDOTHER/" in server.requests[0].headers["authorization"]
    assert "/us-east-2/" in server.requests[0].headers["authorization"]
    assert "us-east-2" in scorer.fingerprint
    assert "other-secret" not in repr(scorer)
    pickled = pickle.dumps(scorer)
    assert b"other-secret" not in pickled
    # Not with the environment's credentials, though there are some.
    again = pickle.loads(pickle.dumps(pickle.loads(pickled)))
    with pytest.raises(ConfigurationError, match="did not go into its pickle"):
        scores_of(again, TEXTS)
    assert server.received == 1


def test_a_pickle_works_where_there_are_credentials(server, build):
    scorer = build(model="jina-reranker-m0", request_form="list")
    scores = scores_of(scorer, TEXTS)
    again = pickle.loads(pickle.dumps(scorer))
    assert (again.model, again.fingerprint) == (scorer.model, scorer.fingerprint)
    assert scores_of(again, TEXTS) == scores
    again.close()

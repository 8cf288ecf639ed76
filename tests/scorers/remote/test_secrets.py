"""The key is nowhere but in the request. Searched for, not believed."""

import copy
import io
import json
import logging
import pickle
import traceback

import dialect_answers as bodies
import pytest
from faults import (
    EchoKey,
    FaultServer,
    GzipBomb,
    Hang,
    Html,
    RateLimited,
    Redirect,
    ResetBefore,
    ResetMidBody,
    Status,
)
from other_process import run_python

from jina_rerank import (
    AuthenticationError,
    ConfigurationError,
    RemoteScorer,
    Reranker,
    RerankError,
)
from jina_rerank.plugin import build_reranker

KEY = "jina_a1b2c3d4e5f6g7h8i9"
HEADER = "gateway-secret-0987654321"


def everything_about(error: BaseException) -> str:
    """Data that an error tracker would collect: each frame's locals, and all errors behind it."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(shown.format()) + repr(error.__dict__)


def assert_hidden(text: str | bytes) -> None:
    for secret in (KEY, HEADER):
        assert secret not in (text if isinstance(text, str) else text.decode("latin-1"))


@pytest.mark.parametrize(
    "fault",
    [
        EchoKey(),
        Status(500, bodies.INTERNAL_ERROR),
        Status(500, {"detail": {"message": f"key {KEY}", "code": KEY, "request_id": KEY}}),
        Status(422, {"detail": [{"loc": ["headers", KEY], "msg": f"{HEADER}?", "type": "x"}]}),
        Status(200, f"<html>{KEY}"),
        RateLimited(retry_after="600"),
        Redirect(f"https://elsewhere/?key={KEY}"),
        Html(502),
        GzipBomb(8),
        ResetBefore(),
        ResetMidBody(),
        Hang(),
    ],
)
@pytest.mark.parametrize("source", ["argument", "environment"])
def test_no_error_holds_the_key(server, connect, fault, source, caplog, monkeypatch) -> None:
    caplog.set_level(logging.INFO)  # below that, httpcore writes down the answer's headers
    caplog.set_level(logging.DEBUG, "jina_rerank")
    if source == "environment":
        monkeypatch.setenv("JINA_API_KEY", KEY)
    settings = {"api_key": KEY if source == "argument" else None, "headers": {"X-Gate": HEADER}}
    reranker = connect(timeout=1.0, **settings)
    server.default = fault
    with pytest.raises(RerankError) as caught:
        reranker.rank("q", ["a"])
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert server.requests[0].headers["x-gate"] == HEADER
    error = caught.value
    # From the scorer's own frames on: the test's hold the key, since it wrote it.
    own = error.with_traceback(_without_the_test(error.__traceback__))
    assert_hidden(everything_about(own))
    assert_hidden(pickle.dumps(error))
    assert_hidden(str(error) + repr(error) + str(error.args))
    assert_hidden(caplog.text)


def _without_the_test(trace):
    while trace is not None and not trace.tb_frame.f_globals["__name__"].startswith("jina_rerank"):
        trace = trace.tb_next
    assert trace is not None
    return trace


def test_no_error_without_a_connection_holds_the_key() -> None:
    with FaultServer() as server:
        url = server.url
    with (
        Reranker(RemoteScorer(base_url=url, api_key=KEY, timeout=1)) as reranker,
        pytest.raises(RerankError) as caught,
    ):
        reranker.rank("q", ["a"])
    error = caught.value
    own = error.with_traceback(_without_the_test(error.__traceback__))
    assert_hidden(everything_about(own))


@pytest.mark.parametrize(
    "settings",
    [
        {"timeout": -1},
        {"dialect": "openai"},
        {"base_url": "nowhere"},
        {"headers": {"X-Gate": HEADER, "X-Bad": "\n"}},
        {"api_key": f"{KEY}\n"},
        {"api_key": [KEY]},
    ],
)
def test_no_error_while_building_holds_the_key(settings) -> None:
    with pytest.raises(RerankError) as caught:
        RemoteScorer(**{"api_key": KEY, "headers": {"X-Gate": HEADER}} | settings)
    own = caught.value.with_traceback(_without_the_test(caught.value.__traceback__))
    assert_hidden(everything_about(own))


@pytest.mark.parametrize(
    "settings",
    [
        {"timeout": -1},
        {"dialect": "openai"},
        {"backend": "nowhere"},
        {"backend": "local"},
        {"dtype": "float32"},
        {"api_key": f"{KEY}\n"},
    ],
)
def test_no_error_while_a_plugin_builds_holds_the_key(settings) -> None:
    with pytest.raises(RerankError) as caught:
        build_reranker(**{"backend": "remote", "api_key": KEY} | settings)
    own = caught.value.with_traceback(_without_the_test(caught.value.__traceback__))
    assert_hidden(everything_about(own))


def test_nothing_that_shows_a_scorer_holds_the_key() -> None:
    scorer = RemoteScorer(api_key=KEY, headers={"X-Gate": HEADER})
    assert_hidden(repr(scorer) + str(scorer) + repr(Reranker(scorer)) + scorer.fingerprint)
    assert "api_key" in repr(scorer)
    assert "X-Gate" in repr(scorer)
    assert_hidden(repr(scorer.__dict__))
    assert_hidden(pickle.dumps(scorer))
    assert_hidden(pickle.dumps(scorer, protocol=0))


def test_the_key_comes_from_two_variables_in_turn(server, connect, monkeypatch) -> None:
    monkeypatch.setenv("JINAAI_API_KEY", "jina_second")
    assert "JINAAI_API_KEY" in repr(connect(api_key=None).scorer)
    connect(api_key=None).rank("q", ["a"])
    monkeypatch.setenv("JINA_API_KEY", "jina_first")
    connect(api_key=None).rank("q", ["a"])
    connect(api_key="jina_argument").rank("q", ["a"])
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == ["Bearer jina_second", "Bearer jina_first", "Bearer jina_argument"]


def test_an_empty_variable_is_not_a_key(server, connect, monkeypatch) -> None:
    monkeypatch.setenv("JINA_API_KEY", "")
    connect(api_key=None).rank("q", ["a"])
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("dialect", ["tei", "sagemaker"])
def test_jina_s_key_goes_to_nobody_else(server, connect, monkeypatch, dialect) -> None:
    monkeypatch.setenv("JINA_API_KEY", KEY)
    connect(api_key=None, dialect=dialect).rank("q", ["a"])
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("key", ["", " ", f"{KEY}\n", f" {KEY}", "jina_é", f"a\r\nX-Evil: {KEY}"])
def test_a_malformed_key_is_refused_and_not_quoted(key: str) -> None:
    with pytest.raises(AuthenticationError, match="api_key") as caught:
        RemoteScorer(api_key=key)
    assert_hidden(str(caught.value))


def test_a_malformed_key_of_the_environment_is_named(monkeypatch) -> None:
    monkeypatch.setenv("JINA_API_KEY", f"{KEY}\n")
    with pytest.raises(AuthenticationError, match="JINA_API_KEY") as caught:
        RemoteScorer()
    assert_hidden(str(caught.value))


def test_a_pickle_finds_the_key_of_the_environment(server, connect, monkeypatch) -> None:
    monkeypatch.setenv("JINA_API_KEY", KEY)
    packed = pickle.dumps(connect(api_key=None))
    assert_hidden(packed)
    monkeypatch.setenv("JINA_API_KEY", "jina_over_there")
    with pickle.loads(packed) as reranker:
        reranker.rank("q", ["a"])
    assert server.requests[0].headers["authorization"] == "Bearer jina_over_there"


def test_a_pickle_that_lost_a_key_or_headers_says_so(server, connect) -> None:
    for settings in ({"api_key": KEY}, {"api_key": None, "headers": {"X-Gate": HEADER}}):
        with (
            pickle.loads(pickle.dumps(connect(**settings))) as reranker,
            pytest.raises(ConfigurationError, match="did not go into its pickle"),
        ):
            reranker.rank("q", ["a"])
        twice = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(connect(**settings)))))
        with twice, pytest.raises(ConfigurationError, match="did not go into its pickle"):
            twice.rank("q", ["a"])
    assert server.received == 0


def test_a_copy_keeps_the_key(server, connect) -> None:
    for copied in (copy.copy(connect().scorer), copy.deepcopy(connect().scorer)):
        Reranker(copied).rank("q", ["a"])
    assert all("authorization" in request.headers for request in server.requests)


def test_the_key_is_not_in_what_the_http_libraries_log(server, connect) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    names = ("httpx", "httpcore", "anyio", "asyncio", "hpack")
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    try:
        connect(api_key=KEY, headers={"X-Gate": HEADER}).rank("q", ["a"])
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
    assert "127.0.0.1" in stream.getvalue()
    assert_hidden(stream.getvalue())


def test_the_key_is_not_in_what_is_logged_about_http2(connect) -> None:
    # A process of its own, whose loggers have the levels of a user who set only the root's.
    program = f"""
        import io, logging
        stream = io.StringIO()
        logging.basicConfig(level=logging.DEBUG, stream=stream)
        from jina_rerank import RemoteScorer
        RemoteScorer(base_url="http://127.0.0.1:9", http2=True).warm_up()
        from hpack import Encoder
        Encoder().encode([("authorization", "Bearer {KEY}"), ("x-gate", "{HEADER}")])
        print(stream.getvalue())
    """
    done = run_python(program)
    assert done.returncode == 0, done.stderr
    assert "selector" in done.stdout  # asyncio's word at its start: the level is in force
    assert_hidden(done.stdout)


@pytest.mark.parametrize(
    ("settings", "secret"),
    [
        ({"headers": {"Authorization": f"Bearer {KEY}"}}, KEY),
        ({"headers": {"Cookie": f"session={KEY}; theme=dark"}}, KEY),
        ({"headers": {"X-Keys": f"short,{KEY}"}}, KEY),
        ({"api_key": "sk/secret/1234567"}, "sk/secret/1234567"),
        ({"api_key": "sk+secret=1234567"}, "sk+secret=1234567"),
        ({"headers": {"X-Gate": 'a"quoted\\\\secret'}}, 'a"quoted\\\\secret'),
    ],
)
@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_part_of_a_secret_is_hidden_however_the_service_escapes_it(
    server, connect, settings, secret: str, escaped: bool, layers: int
) -> None:
    body = json.dumps({"detail": f"Invalid key: {secret}", "code": secret, "request_id": secret})
    for _ in range(layers - 1):
        body = json.dumps({"detail": body})
    if escaped:  # as PHP, Go and Java do
        body = body.replace("/", "\\/").replace("+", "\\u002b").replace("=", "\\u003D")
    server.default = Status(401, body)
    with pytest.raises(AuthenticationError, match=r"Invalid key: \*\*\*") as caught:
        connect(**{"api_key": None} | settings).rank("q", ["a"])
    shown = str(caught.value) + repr(caught.value.__dict__)
    assert secret not in shown.replace("\\", "")
    assert secret.replace("\\", "") not in shown.replace("\\", "")


def test_short_parts_of_a_header_are_left_in_messages(server, connect) -> None:
    server.default = Status(400, {"detail": "version 1 of dark is not known"})
    with pytest.raises(RerankError, match="version 1 of dark is not known"):
        connect(headers={"X-Version": "1", "Cookie": "theme=dark"}).rank("q", ["a"])

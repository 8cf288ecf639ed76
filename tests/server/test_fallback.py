"""A gateway whose service fails: another model answers, and every dialect says so."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from faults import FaultServer, Hang, Right, Status
from serve_processes import run
from serving import GatedModel, GatedScorer, LiveService, until

from jina_rerank import FallbackScorer, LocalScorer, RemoteScorer, Reranker
from jina_rerank.errors import ConfigurationError
from jina_rerank.server import Engine, ServedModel, Settings, pulse
from jina_rerank.server.logs import JsonFormatter
from jina_rerank.server.refusals import TooLong

QUERY = "what is a panda?"
TEXTS = ["coffee is brewed", "the giant panda is a bear", "paris", "berlin"]
SAID = "secret words of the service"


@pytest.fixture(scope="module")
def broken() -> Iterator[FaultServer]:
    """A service that is down."""
    with FaultServer() as server:
        server.default = Status(503, SAID)
        yield server


@pytest.fixture(scope="module")
def gateway(broken: FaultServer, small_checkpoint: Path) -> Iterator[LiveService]:
    """A gateway to that service, with a model of its own beside it."""
    models = (f"far=remote:far@{broken.url}", f"small={small_checkpoint}")
    with LiveService(models=models, fallback="small") as live:
        until(lambda: live.engine.ready)
        yield live


@pytest.fixture(scope="module")
def expected(small_checkpoint: Path) -> list[int]:
    ranking = Reranker(LocalScorer(small_checkpoint)).rank(QUERY, TEXTS)
    return [hit.index for hit in ranking]


def ask(service: LiveService, path: str = "/v1/rerank", **body: object) -> httpx.Response:
    asked = {"model": "far", "query": QUERY, "documents": TEXTS} | body
    return httpx.post(f"{service.url}{path}", json=asked, timeout=60)


def test_the_fallback_answers_and_the_answer_says_so(
    gateway: LiveService, expected: list[int]
) -> None:
    reply = ask(gateway, threshold=0.999999, top_n=3)
    assert reply.status_code == 200
    answer = reply.json()
    # No threshold empties it: that was chosen for the other model's scores.
    assert [result["index"] for result in answer["results"]] == expected[:3]
    assert answer["model"] == "small"
    assert answer["degraded"] == "far could not answer; small did"
    assert reply.headers["x-degraded"] == "true"
    assert SAID not in reply.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/voyage/v1/rerank", {}),
        ("/rerank", {"texts": TEXTS}),
        ("/score", {"text_1": QUERY, "text_2": TEXTS}),
        (
            "/invocations",
            {"data": {"query": QUERY, "documents": [{"text": text} for text in TEXTS]}},
        ),
        ("/playground/rank", {}),
    ],
)
def test_dialects_without_a_field_for_it_have_the_header(
    gateway: LiveService, path: str, body: dict[str, object]
) -> None:
    degraded = ask(gateway, path, **body)
    assert degraded.status_code == 200
    assert degraded.headers["x-degraded"] == "true"


def test_cohere_warns(gateway: LiveService) -> None:
    answer = ask(gateway, "/v2/rerank").json()
    assert answer["meta"]["warnings"] == ["the answer is degraded: far could not answer; small did"]


def test_the_model_itself_answers_as_ever(gateway: LiveService) -> None:
    reply = ask(gateway, model="small")
    assert reply.json()["model"] == "small"
    assert "degraded" not in reply.json()
    assert "x-degraded" not in reply.headers


def test_it_is_counted(gateway: LiveService) -> None:
    def counted() -> float:
        text = httpx.get(f"{gateway.url}/metrics").text
        name = 'jina_rerank_degraded_total{model="far"} '
        return sum(float(line[len(name) :]) for line in text.splitlines() if line.startswith(name))

    before = counted()
    ask(gateway)
    ask(gateway, model="small")
    assert counted() == before + 1


def test_our_client_knows_that_the_answer_is_degraded(
    gateway: LiveService, expected: list[int]
) -> None:
    with Reranker(RemoteScorer("far", base_url=gateway.url)) as client:
        ranking = client.rank(QUERY, TEXTS, threshold=0.999999)
    assert ranking.degraded == "the service says: far could not answer; small did"
    assert [hit.index for hit in ranking] == expected
    assert ranking.unscored == ()
    with Reranker(RemoteScorer("small", base_url=gateway.url)) as client:
        assert client.rank(QUERY, TEXTS).degraded is None


def test_a_gateway_of_a_gateway_says_so_in_its_own_names(gateway: LiveService) -> None:
    with LiveService(models=(f"front=remote:far@{gateway.url}",)) as front:
        answer = ask(front, model="front").json()
    assert answer["model"] == "front"
    assert answer["degraded"] == "the service behind front gave a degraded answer"


def test_a_service_that_answers_is_not_replaced(small_checkpoint: Path) -> None:
    with FaultServer() as server:
        server.default = Right()
        models = (f"far=remote:far@{server.url}",)
        with LiveService(models=models, fallback=f"second={small_checkpoint}") as live:
            until(lambda: live.engine.ready)
            whole = ask(live)
            server.default = Status(401)
            refused = ask(live)
            server.default = Status(503)
            degraded = ask(live)
            unknown = ask(live, model="second")
    assert whole.json()["model"] == "far"
    assert "degraded" not in whole.json()
    assert "x-degraded" not in whole.headers
    # A wrong key does not pass by itself, and would go unnoticed.
    assert refused.status_code == 500
    assert degraded.json()["model"] == "second"
    assert unknown.status_code == 400, "it answers for others, and is not served"


def test_the_fallback_may_be_another_service(small_checkpoint: Path, broken: FaultServer) -> None:
    with LiveService(models=(f"small={small_checkpoint}",)) as other:
        models = (f"a=remote:a@{broken.url}", f"b=remote:small@{other.url}")
        with LiveService(models=models, fallback="b") as front:
            degraded, whole = ask(front, model="a").json(), ask(front, model="b").json()
    assert degraded["degraded"] == "a could not answer; b did"
    assert degraded["results"] == whole["results"]
    assert "degraded" not in whole


def test_the_fallback_answers_for_a_service_that_hangs(
    small_checkpoint: Path, expected: list[int]
) -> None:
    with FaultServer() as server:
        server.default = Hang()
        models = (f"far=remote:far@{server.url}",)
        fallback = f"small={small_checkpoint}"
        with LiveService(models=models, fallback=fallback, deadline=8) as live:
            until(lambda: live.engine.ready)
            reply = ask(live)
    assert reply.status_code == 200
    assert reply.json()["model"] == "small"
    assert [result["index"] for result in reply.json()["results"]] == expected


@pytest.mark.parametrize(("fallback", "seconds"), [("", 120.0), ("mini", 60.0)])
def test_a_service_has_the_time_that_a_request_has(fallback: str, seconds: float) -> None:
    models = ("far=remote:far@http://127.0.0.1:9",)
    (model,) = Engine(Settings(models=models, fallback=fallback, deadline=120)).served
    scorer = model.reranker.scorer
    remote = scorer.primary if isinstance(scorer, FallbackScorer) else scorer
    assert isinstance(remote, RemoteScorer)
    assert remote._conduct.timeout == seconds


def test_an_idle_fallback_is_freed(broken: FaultServer, small_checkpoint: Path) -> None:
    models = (f"far=remote:far@{broken.url}",)
    with LiveService(models=models, fallback=f"small={small_checkpoint}", idle_unload=0.5) as live:
        until(lambda: live.engine.ready)
        (model,) = live.engine.served
        scorer = model.in_process
        assert scorer is not None
        assert ask(live).json()["model"] == "small"
        until(lambda: scorer.facts is None)
        assert ask(live).json()["model"] == "small", "it is loaded again"


def test_a_fallback_that_hangs_is_noticed(
    gated: GatedModel, broken: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "PATIENCE", 0.05)
    monkeypatch.setattr(pulse, "FRESH", 0.0)
    fallback = GatedScorer(gated)
    scorer = FallbackScorer(RemoteScorer("far", base_url=broken.url), fallback)
    model = ServedModel("far", Reranker(scorer), False, "gated", fallback)
    with LiveService([model], deadline=0.2) as live:
        until(lambda: live.engine.ready)
        assert httpx.get(f"{live.url}/live").status_code == 200
        gated.hold()
        until(lambda: httpx.get(f"{live.url}/live").text == "hanging")
        gated.release()
        until(lambda: httpx.get(f"{live.url}/live").text == "live")


SECRET = "SECRETDOC"
ECHO = {"detail": f"failed on {SECRET}", "code": "BAD_TEXT", "request_id": "rid-7"}


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Status(500, ECHO), 500, "INTERNAL_ERROR"),
        (Status(401, ECHO), 500, "INTERNAL_ERROR"),
        (Status(400, ECHO), 422, None),
        (Status(422, {"errors": [{"field": SECRET, "message": SECRET}]}), 422, None),
        (Status(400, ECHO | {"code": f"{SECRET} {SECRET}"}), 422, None),
        (Status(400, {"errors": [{"field": SECRET}], "code": TooLong.code}), 400, TooLong.code),
    ],
)
def test_neither_an_answer_nor_the_log_has_the_words_or_the_address_of_a_service(
    fault: Status, status: int, code: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "jina_rerank")
    with FaultServer() as server:
        server.default = fault
        models = (f"far=remote:far@{server.url}",)
        with LiveService(models=models) as live:
            until(lambda: live.engine.ready)
            refused = ask(live, documents=[SECRET])
    assert refused.status_code == status
    if code is not None:
        assert refused.json()["detail"]["code"] == code
    written = log_of(caplog)
    for text in (refused.text, written):
        assert SECRET not in text
        assert server.url not in text
    if fault.body is ECHO:
        told = written if status == 500 else refused.text
        assert f"status {fault.status}, code BAD_TEXT, request id rid-7" in told


def test_the_log_of_a_fallback_has_no_words_of_a_service(
    small_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "jina_rerank")
    with FaultServer() as server:
        server.default = Status(500, ECHO)
        models = (f"far=remote:far@{server.url}",)
        with LiveService(models=models, fallback=f"small={small_checkpoint}") as live:
            until(lambda: live.engine.ready)
            assert ask(live).status_code == 200
    written = log_of(caplog)
    assert SECRET not in written
    assert server.url not in written
    assert "far could not answer: ServerError (status 500, code BAD_TEXT" in written
    assert "trying again in" in written


def log_of(caplog: pytest.LogCaptureFixture) -> str:
    """The package's records as the service's process would write them."""
    formatter = JsonFormatter()
    records = [one for one in caplog.records if one.name.startswith("jina_rerank")]
    return "\n".join(formatter.format(record) for record in records)


def test_a_fallback_without_a_service_behind_anything_is_refused(small_checkpoint: Path) -> None:
    far = "far=remote:far@http://127.0.0.1:9"
    for models, fallback in (((str(small_checkpoint),), "mini"), ((far,), "far")):
        with pytest.raises(ConfigurationError, match="fallback: no other model here is asked of"):
            Engine(Settings(models=models, fallback=fallback))
    with pytest.raises(ConfigurationError, match="colon"):
        Engine(Settings(models=(far,), fallback="cross-encoder:"))


def test_the_command_takes_it_from_an_option_and_from_a_variable() -> None:
    shown = run("--show-settings", "--fallback", "mini")
    assert '"fallback": "mini"' in shown.stdout
    done = run("--port", "0", JINA_RERANK_FALLBACK="mini")
    assert done.returncode == 2
    assert "--fallback: no other model here is asked of a service" in done.stderr

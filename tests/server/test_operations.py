"""Readiness, metrics and logs, for operators; and an end at which nothing is lost."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import GatedModel, LiveService, served, until

from jina_rerank.errors import ModelLoadError
from jina_rerank.server.logs import JsonFormatter

PARTS = ("queue", "tokenization", "compute")


def ask(service: LiveService, documents: list[str], **body) -> httpx.Response:
    given = {"query": "panda", "documents": documents, **body}
    return httpx.post(f"{service.url}/v1/rerank", json=given, timeout=60)


def ready(service: LiveService) -> tuple[int, str]:
    response = httpx.get(f"{service.url}/ready")
    return response.status_code, response.text


def numbers(service: LiveService) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    text = httpx.get(f"{service.url}/metrics").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_it_is_ready_when_the_model_has_computed_something(gated: GatedModel) -> None:
    gated.hold()
    with LiveService(served(gated)) as service:
        assert gated.computing.wait(30)
        assert httpx.get(f"{service.url}/live").status_code == 200
        assert ready(service) == (503, "loading")
        gated.release()
        until(lambda: ready(service) == (200, "ready"))
        # What came meanwhile waits for the model, as any request does.
        assert ask(service, ["bear"]).status_code == 200


def test_its_health_is_that_it_is_ready_and_computes(gated: GatedModel) -> None:
    def health() -> tuple[int, str]:
        response = httpx.get(f"{service.url}/health")
        return response.status_code, response.text

    gated.hold()
    with LiveService(served(gated), deadline=0.2, keys="ada:ada-0123456789abcdef") as service:
        assert gated.computing.wait(30)
        assert health() == (503, "loading")
        gated.release()
        until(lambda: health() == (200, "ready"))
        gated.hold()
        key = {"authorization": "Bearer ada-0123456789abcdef"}
        body = {"query": "panda", "documents": ["bear"]}
        late = httpx.post(f"{service.url}/v1/rerank", json=body, headers=key, timeout=60)
        assert late.status_code == 504
        until(lambda: health() == (503, "hanging"))
        gated.release()
        until(lambda: health() == (200, "ready"))
        service.engine.drain()
        assert health() == (503, "draining")


def test_a_model_that_cannot_be_loaded_ends_the_service(tmp_path: Path) -> None:
    with LiveService(models=(str(tmp_path),)) as service:
        service.join()
    assert isinstance(service.engine.failure, ModelLoadError)
    assert (service.engine.state, service.engine.ready) == ("failed", False)


def test_the_numbers(start) -> None:
    service = start()
    answer = ask(service, ["bear", "coffee"]).json()
    ask(service, [])
    httpx.get(f"{service.url}/secret")
    found = numbers(service)
    assert found["jina_rerank_requests_total", "/v1/rerank", "200"] == 1
    assert found["jina_rerank_requests_total", "/v1/rerank", "422"] == 1
    assert found["jina_rerank_requests_total", "other", "404"] == 1
    assert found["jina_rerank_request_seconds_count", "/v1/rerank"] == 2
    assert found["jina_rerank_rank_seconds_count", "gated"] == 1
    parts = [found[f"jina_rerank_{part}_seconds_sum", "gated"] for part in PARTS]
    assert all(seconds > 0 for seconds in parts)
    assert sum(parts) <= found["jina_rerank_rank_seconds_sum", "gated"]
    assert found["jina_rerank_padding_tokens_total",] == 0
    assert found["jina_rerank_request_documents_sum", "gated"] == 2
    assert found["jina_rerank_request_tokens_sum", "gated"] == answer["usage"]["total_tokens"]
    assert found["jina_rerank_queued_requests",] == 0
    assert found["jina_rerank_tokens_per_second",] > 0
    assert "secret" not in str(found)


def test_the_queue_is_seen_from_outside(gated, start) -> None:
    service = start()
    gated.hold()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, service, ["bear", "coffee"])
        until(lambda: numbers(service)["jina_rerank_queued_requests",] == 1)
        assert numbers(service)["jina_rerank_queued_tokens",] > 0
        gated.release()
        assert first.result(30).status_code == 200


def lines(caplog: pytest.LogCaptureFixture) -> list[dict]:
    """All records as the service's process would write them."""
    formatter = JsonFormatter()
    return [json.loads(formatter.format(record)) for record in caplog.records]


def test_logs_say_who_and_how_much_and_never_what(gated, start, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    service = start(keys="ada:ada-0123456789abcdef")
    headers = {
        "authorization": "Bearer ada-0123456789abcdef",
        "x-request-id": "SECRET",
        "user-agent": "SECRET",
    }
    gated.fail_on("espresso needs")
    bodies = [
        {"query": "SECRET", "documents": ["SECRET " * 400, "SECRET"]},
        {"query": "SECRET", "documents": ["espresso needs"]},
        {"query": "SECRET", "documents": ["SECRET"], "model": "SECRET"},
        {"query": "SECRET", "documents": {"SECRET": "SECRET"}},
        {"query": "SECRET\0", "documents": ["SECRET"]},
    ]
    answers = [
        httpx.post(f"{service.url}/v1/rerank?SECRET", json=body, headers=headers) for body in bodies
    ]
    httpx.get(f"{service.url}/SECRET", headers=headers)
    assert [answer.status_code for answer in answers] == [200, 500, 400, 422, 422]
    until(lambda: sum(line["message"] == "answered" for line in lines(caplog)) == 6)
    written = lines(caplog)
    ours = [line for line in written if line["logger"].startswith("jina_rerank")]
    assert "SECRET" not in json.dumps(ours)
    assert "secret" not in json.dumps(ours)
    assert "0123456789" not in json.dumps(ours)
    first = next(line for line in ours if line["message"] == "answered")
    assert first["request_id"] == answers[0].headers["x-request-id"]
    assert first["route"] == "/v1/rerank"
    assert first["status"] == 200
    assert first["key_name"] == "ada"
    assert first["model"] == "gated"
    assert first["documents"] == 2
    assert first["tokens"] == answers[0].json()["usage"]["total_tokens"]
    failed = next(line for line in ours if line["message"] == "failed")
    assert failed["error"] == "RuntimeError"
    assert any("serving.py" in entry for entry in failed["stack"])


def test_an_exception_is_logged_without_its_text(caplog) -> None:
    try:
        raise ValueError("SEC" + "RET")
    except ValueError:
        logging.getLogger("other").exception("it failed")
    (line,) = lines(caplog)
    assert (line["message"], line["error"], line["level"]) == ("it failed", "ValueError", "error")
    assert "SECRET" not in json.dumps(line)
    assert "test_operations.py" in line["stack"][0]


def test_request_ids_are_unique(start) -> None:
    service = start()
    ids = [ask(service, ["bear"]).headers["x-request-id"] for _ in range(20)]
    assert len(set(ids)) == 20


def test_sigterm_loses_no_request(gated, start) -> None:
    service = start()
    gated.hold()
    with ThreadPoolExecutor(16) as pool:
        asking = [pool.submit(ask, service, ["bear", "coffee", str(i)]) for i in range(16)]
        until(lambda: service.engine.queue.requests == 16)
        service.terminate()
        until(lambda: service.engine.draining)
        gated.release()
        answers = [future.result(30) for future in asking]
    assert [answer.status_code for answer in answers] == [200] * 16
    assert {answer.headers["connection"] for answer in answers} == {"close"}
    service.join()


def test_while_it_drains_it_answers_and_is_not_ready(gated, start) -> None:
    service = start(drain=3600)
    with httpx.Client(base_url=service.url) as client:
        assert "connection" not in client.get("/live").headers
        service.terminate()
        until(lambda: ready(service) == (503, "draining"))
        answer = ask(service, ["bear"])
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
        assert client.get("/live").headers["connection"] == "close"


def test_what_comes_too_late_is_sent_elsewhere(start) -> None:
    service = start(drain=3600)
    service.engine.stop_accepting()
    refused = ask(service, ["bear"])
    assert (refused.status_code, refused.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert refused.headers["retry-after"] == "1"

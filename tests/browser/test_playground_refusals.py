"""The playground where there is no ranking: fields that are empty, refusals, giving up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from chromium import Visit
from serving import GatedModel, LiveService, served, until

pytestmark = pytest.mark.browser
Open = Callable[..., Visit]


def test_what_is_missing_is_said_before_anything_is_sent(service: LiveService, visit: Open) -> None:
    seen = visit(service.url)
    focused = "document.activeElement.id || document.activeElement.value"
    for query, documents, model, said, where in [
        (" ", "a", True, "Type a query.", "query"),
        ("q", " \n ", True, "Paste some documents, or open a file.", "documents"),
        ("q", "a", False, "Choose a model.", "jina-rerank-mini"),
    ]:
        seen.type(query, [documents])
        seen.page.get_by_label("jina-rerank-mini").set_checked(model)
        seen.page.get_by_role("button", name="Rank").click()
        seen.page.get_by_text(said).wait_for()
        assert seen.page.evaluate(focused) == where
    assert not any(url.endswith("/rank") for url in seen.requests)


def test_a_field_that_is_corrected_is_no_longer_marked(service: LiveService, visit: Open) -> None:
    seen = visit(service.url)
    query = seen.page.get_by_label("Query", exact=True)
    button = seen.page.get_by_role("button", name="Rank")
    marked = seen.page.locator("[aria-invalid]")
    seen.type("", ["a"])
    button.click()
    assert query.get_attribute("aria-invalid") == "true"
    query.press_sequentially("q")
    assert marked.count() == 0
    assert seen.say("alert") == ""
    seen.page.get_by_label("jina-rerank-mini").uncheck()
    button.click()
    assert marked.count() == 1
    seen.page.get_by_label("small").check()  # which is another one than the marked one
    assert marked.count() == 0
    assert seen.say("alert") == ""


def test_a_refusal_is_said_in_words(visit: Open, small_checkpoint: Path) -> None:
    with LiveService(models=(f"small={small_checkpoint}",), max_documents=3) as service:
        seen = visit(service.url)
        seen.type("q", ["a", "b", "c", "d"])
        seen.rank()
        said = "Documents: 4 are more than 3; send fewer at a time."
        assert said in seen.say("alert")
        assert said in seen.page.get_by_role("article").inner_text()
        seen.type("q", ["a", "b", "c"])
        seen.rank()
        assert seen.say("alert") == ""
        assert seen.ranking("small").count() == 3


def test_a_full_queue_says_when_to_come_again(visit: Open, small_checkpoint: Path) -> None:
    gated = GatedModel(small_checkpoint)
    with LiveService(served(gated), max_queued_tokens=10) as service:
        until(lambda: service.engine.ready)
        gated.hold()
        with httpx.Client(base_url=service.url) as other:
            first = visit(service.url)
            first.type("q", ["a"] * 4)
            first.page.get_by_role("button", name="Rank").click()
            assert gated.computing.wait(20)
            assert other.get("/ready").status_code == 200
            second = visit(service.url)
            second.type("q", ["b"] * 4)
            second.rank()
            assert "The queue is full" in second.say("alert")
            assert "Try again in 1 s." in second.say("alert")
            gated.release()
            first.wait()
            assert first.ranking("gated").count() == 4


def test_a_failure_has_the_id_of_its_line_in_the_log(visit: Open, small_checkpoint: Path) -> None:
    gated = GatedModel(small_checkpoint)
    with LiveService(served(gated)) as service:
        until(lambda: service.engine.ready)
        gated.fail_on("b")
        seen = visit(service.url)
        seen.type("q", ["a", "b"])
        with seen.page.expect_response("**/playground/rank") as answered:
            seen.rank()
    request_id = answered.value.headers["x-request-id"]
    for said in (seen.say("alert"), seen.page.get_by_role("article").inner_text()):
        assert f"under this request id. Request id: {request_id}." in said


def test_a_refusal_in_jinas_words_is_said(service: LiveService, visit: Open) -> None:
    # Chromium takes each name under localhost for this machine, and the service does not.
    port = service.url.rpartition(":")[2]
    seen = visit(f"http://playground.localhost:{port}/")
    assert "The Host header must have an IP address or localhost" in seen.say("alert")


def test_a_proxys_date_is_not_said_as_seconds(service: LiveService, visit: Open) -> None:
    seen = visit(service.url)
    seen.page.route(
        "**/playground/rank",
        lambda route: route.fulfill(
            status=503,
            json={"message": "come later"},
            headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"},
        ),
    )
    seen.type("q", ["a"])
    seen.rank()
    assert seen.say("alert") == "jina-rerank-mini: Come later."


def test_too_many_documents_are_refused_before_they_are_listed(
    service: LiveService, visit: Open, tmp_path: Path
) -> None:
    seen = visit(service.url)
    seen.page.evaluate(
        "() => { const create = document.createElement; window.items = 0;"
        " document.createElement = function (tag) {"
        " window.items += tag === 'li'; return create.call(this, tag); } }"
    )
    seen.type("q", [])
    many = tmp_path / "many.txt"
    many.write_text("a\n" * 30_000)
    seen.open_file(many)
    seen.page.get_by_text("30,000 documents").wait_for()
    seen.rank()
    assert "30,000 are more than 1,000" in seen.say("alert")
    assert seen.page.evaluate("window.items") == 0
    seen.type("q", ["a"] * 101)
    seen.rank()
    assert seen.page.evaluate("window.items") == 101


def test_a_new_question_gives_the_old_one_up(visit: Open, small_checkpoint: Path) -> None:
    gated = GatedModel(small_checkpoint)
    with LiveService(served(gated)) as service:
        until(lambda: service.engine.ready)
        gated.hold()
        seen = visit(service.url)
        seen.type("q", ["a", "b"])
        seen.page.get_by_role("button", name="Rank").click()
        assert gated.computing.wait(20)
        assert service.engine.queue.requests == 1
        seen.type("q", ["c"])
        seen.page.get_by_role("button", name="Rank").click()
        gated.release()
        seen.wait()
        assert seen.ranking("gated").count() == 1
        until(lambda: service.engine.queue.requests == 0)


def test_an_empty_query_gives_a_ranking_up_too(visit: Open, small_checkpoint: Path) -> None:
    gated = GatedModel(small_checkpoint)
    with LiveService(served(gated)) as service:
        until(lambda: service.engine.ready)
        gated.hold()
        seen = visit(service.url)
        seen.type("q", ["a", "b"])
        seen.page.get_by_role("button", name="Rank").click()
        assert gated.computing.wait(20)
        assert seen.say("status") == "Ranking…"
        query = seen.page.get_by_label("Query", exact=True)
        query.fill("")
        query.press("Control+Enter")
        assert seen.say("alert") == "Type a query."
        assert seen.say("status") == ""
        assert "cancelled" in seen.page.get_by_role("article").inner_text()
        gated.release()
        until(lambda: service.engine.queue.requests == 0)


def test_a_service_that_has_gone_is_said(visit: Open, service: LiveService) -> None:
    seen = visit(service.url)
    seen.type("q", ["a"])
    seen.page.context.set_offline(True)
    seen.rank()
    assert "The service cannot be reached." in seen.say("alert")

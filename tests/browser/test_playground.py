"""The playground in Chromium: what people see of a ranking."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from chromium import Visit
from serving import LiveService

from jina_rerank import LocalScorer, Reranker
from jina_rerank.server import ServedModel
from jina_rerank.testing import FakeScorer

pytestmark = pytest.mark.browser
Open = Callable[..., Visit]

QUERY = "What is the capital of France?"
DOCUMENTS = [
    "Berlin is the capital of Germany.",
    "Coffee is brewed from roasted beans.",
    "The capital of France is Paris.",
    "France is a country in Europe.",
]


def ask(service: LiveService, model: str) -> list[dict]:
    body = {"model": model, "query": QUERY, "documents": DOCUMENTS}
    return httpx.post(f"{service.url}/v1/rerank", json=body, timeout=30).json()["results"]


def test_rankings_side_by_side_are_those_of_the_service(service: LiveService, visit: Open) -> None:
    seen = visit(service.url)
    seen.type(QUERY, DOCUMENTS)
    seen.page.get_by_label("small").check()
    seen.rank()
    for model in ("jina-rerank-mini", "small"):
        expected = ask(service, model)
        assert seen.order(model) == [result["index"] for result in expected]
        for item, result in zip(seen.ranking(model).all(), expected, strict=True):
            text = item.inner_text()
            assert DOCUMENTS[result["index"]] in text
            assert f"{result['relevance_score']:.4f}" in text
    beside = [seen.page.get_by_role("article").nth(i).bounding_box() for i in (0, 1)]
    assert beside[0]["x"] + beside[0]["width"] <= beside[1]["x"]
    assert "Ranked 4 documents." in seen.say("status")


def test_bars_are_as_long_as_scores_are_high(service: LiveService, visit: Open) -> None:
    seen = visit(service.url)
    seen.type(QUERY, DOCUMENTS)
    seen.rank()
    shares = seen.page.locator(".bar").evaluate_all(
        "bars => bars.map((b) => b.firstChild.getBoundingClientRect().width"
        " / b.getBoundingClientRect().width)"
    )
    scores = [result["relevance_score"] for result in ask(service, "jina-rerank-mini")]
    assert shares == pytest.approx(scores, abs=0.01)


def test_documents_are_seen_to_move_from_where_they_were(service: LiveService, visit: Open) -> None:
    seen = visit(service.url)
    seen.type(QUERY, DOCUMENTS)
    seen.rank()
    order = seen.order("jina-rerank-mini")
    moves = seen.page.evaluate("window.moves")
    assert {int(move["index"]) for move in moves} == {
        index for place, index in enumerate(order) if index != place
    }
    place = order.index(2)  # the answer was third
    said = seen.ranking("jina-rerank-mini").nth(place).inner_text()
    assert "from 3" in said
    (way,) = [move["from"] for move in moves if move["index"] == "2"]
    height = seen.ranking("jina-rerank-mini").first.bounding_box()["height"]
    assert float(way.removeprefix("translateY(").removesuffix("px)")) == pytest.approx(
        (2 - place) * height, abs=2
    )


def test_nothing_moves_for_those_who_asked_for_that(service: LiveService, visit: Open) -> None:
    seen = visit(service.url, reduced_motion="reduce")
    seen.type(QUERY, DOCUMENTS)
    seen.rank()
    assert seen.order("jina-rerank-mini")[0] == 2
    assert seen.page.evaluate("window.moves") == []
    assert seen.page.evaluate("getComputedStyle(document.querySelector('.bar i')).transition") in {
        "all",
        "none",
        "all 0s ease 0s",
    }


def test_tokens_and_what_was_cut_are_the_models_own(visit: Open, small_checkpoint: Path) -> None:
    documents = [*DOCUMENTS, "coffee" + " coffee" * 60]
    expected = Reranker(LocalScorer(small_checkpoint, max_length=40)).rank(QUERY, documents)
    assert expected.usage.truncated_documents == 1
    with LiveService(models=(f"small={small_checkpoint}",), max_length=40) as service:
        seen = visit(service.url)
        seen.type(QUERY, documents)
        seen.rank()
        for item, hit in zip(seen.ranking("small").all(), expected, strict=True):
            said = item.inner_text()
            assert f"{hit.tokens} tokens" in said
            cut = hit.truncated_tokens
            assert (f"{cut} more tokens cut off" in said) == bool(cut)
        heading = seen.page.get_by_role("article").locator("header").inner_text()
    assert f"{expected.usage.tokens} tokens" in heading
    assert "1 document too long" in heading
    assert " ms round trip" in heading


def test_a_query_that_is_cut_is_said(visit: Open, small_checkpoint: Path) -> None:
    with LiveService(models=(f"small={small_checkpoint}",), max_length=16) as service:
        seen = visit(service.url)
        seen.type("panda " * 30, ["a panda"])
        seen.rank()
        assert "The query is too long: its last" in seen.page.get_by_role("article").inner_text()


def test_a_keyboard_is_enough(service: LiveService, visit: Open) -> None:
    seen = visit(service.url)
    keys = seen.page.keyboard

    def focused() -> str:
        return seen.page.evaluate("document.activeElement.id || document.activeElement.value")

    keys.press("Tab")  # the link in the head
    keys.press("Tab")
    assert focused() == "query"
    keys.type(QUERY)
    keys.press("Tab")
    keys.type(f"{DOCUMENTS[0]}\nEurope.\n\n{DOCUMENTS[2]}")
    assert seen.page.get_by_text("3 documents").is_visible()
    keys.press("Tab")
    assert focused() == "lines"
    keys.press("ArrowRight")
    assert focused() == "blocks"
    assert seen.page.get_by_text("2 documents").is_visible()
    outline = "getComputedStyle(document.activeElement.nextElementSibling).outlineStyle"
    assert seen.page.evaluate(outline) == "solid"
    order = ["file", "jina-rerank-mini", "small", "rank", "example", "share"]
    for expected in order:
        keys.press("Tab")
        assert focused() == expected
        shown = "getComputedStyle(document.activeElement.closest('.button, :focus')).outlineStyle"
        assert seen.page.evaluate(shown) == "solid"
    for _ in range(4):
        keys.press("Shift+Tab")
    assert focused() == "jina-rerank-mini"
    keys.press("Space")  # not this one
    keys.press("Tab")
    keys.press("Space")  # but this
    keys.press("Control+Enter")
    seen.wait()
    assert seen.ranking("small").count() == 2
    assert seen.ranking("jina-rerank-mini").count() == 0
    assert "Ranked 2 documents. Best with small: number" in seen.say("status")


def test_it_fits_a_small_screen(service: LiveService, visit: Open) -> None:
    seen = visit(service.url, viewport={"width": 360, "height": 640})
    width = "document.documentElement.scrollWidth"
    assert seen.page.evaluate(width) == 360
    seen.type(QUERY, [*DOCUMENTS, "x" * 200])
    seen.page.get_by_label("small").check()
    seen.rank()
    top = "document.querySelector('article').getBoundingClientRect().top"
    seen.until(f"{top} >= 0 && {top} < 320")  # it has come into sight
    seen.page.get_by_role("button", name="Copy link").click()
    seen.page.get_by_label("Link to").wait_for()
    assert seen.page.evaluate(width) == 360


def test_long_documents_open_and_close(service: LiveService, visit: Open) -> None:
    seen = visit(service.url)
    seen.type(QUERY, [DOCUMENTS[2], "word " * 100 + "end"])
    seen.rank()
    button = seen.page.get_by_role("button", name="Show all")
    assert not seen.page.get_by_role("article").get_by_text("word end").is_visible()
    button.press("Enter")
    assert seen.page.get_by_role("article").get_by_text("word end").is_visible()
    seen.page.get_by_role("button", name="Show less").click()
    assert not seen.page.get_by_role("article").get_by_text("word end").is_visible()


ATTACKS = [
    "<img src=x onerror='window.hacked = 1'>",
    "<script>window.hacked = 1</script>",
    "</textarea></li><svg onload='window.hacked = 1'>",
    "<a href='javascript:window.hacked = 1'>click</a>",
    "{{constructor.constructor('window.hacked = 1')()}}",
]


def test_texts_are_never_mark_up(service: LiveService, visit: Open) -> None:
    seen = visit(service.url)
    seen.type(ATTACKS[0], ATTACKS)
    seen.rank()
    seen.page.get_by_role("button", name="Copy link").click()
    seen.page.get_by_label("Link to").wait_for()
    again = visit(seen.page.get_by_label("Link to").input_value())
    again.wait()
    for shown in (seen, again):
        assert sorted(shown.page.locator("li .text").all_inner_texts()) == sorted(ATTACKS)
        assert shown.page.locator("li img, li script, li svg, li a").count() == 0
        assert shown.page.evaluate("window.hacked") is None


def test_a_model_that_tells_little_and_has_mark_up_for_a_name(visit: Open) -> None:
    name = "<b onclick='window.hacked = 1'>bold</b>"
    with LiveService([ServedModel(name, Reranker(FakeScorer()))]) as service:
        seen = visit(service.url)
        seen.type("capital of France", DOCUMENTS)
        seen.rank()
        assert seen.order(name)[0] == 2
        shown = seen.page.get_by_role("article").inner_text()
        assert name in shown
        assert "token" not in shown
        assert "null" not in shown


@pytest.mark.parametrize(
    ("line", "directive"),
    [
        ("document.body.innerHTML = '<img src=x>'", "require-trusted-types-for"),
        ("document.body.setAttribute('onclick', 'hacked = 1')", "require-trusted-types-for"),
        ("fetch('http://127.0.0.1:9/').catch(() => {})", "connect-src"),
        ("new Image().src = 'http://127.0.0.1:9/'", "img-src"),
    ],
)
def test_the_policy_would_stop_mark_up_and_what_goes_elsewhere(
    service: LiveService, visit: Open, line: str, directive: str
) -> None:
    seen = visit(service.url)
    seen.page.evaluate(f"() => {{ try {{ {line} }} catch {{}} }}")
    seen.until("window.violations.length > 0")
    (violation,) = seen.violations
    assert violation.startswith(directive)
    # These were meant; a request is announced before it is stopped.
    seen.page.evaluate("window.violations = []")
    seen.requests.clear()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_is_accessible(service: LiveService, visit: Open, theme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    seen = visit(service.url, color_scheme=theme, reduced_motion="reduce")
    assert axe.run(seen.page).response["violations"] == []
    seen.type(QUERY, [*DOCUMENTS, "word " * 100])
    seen.page.get_by_label("small").check()
    seen.rank()
    seen.page.get_by_role("button", name="Copy link").click()
    seen.page.get_by_label("Link to").wait_for()
    seen.page.get_by_label("Query", exact=True).fill("")
    seen.page.get_by_role("button", name="Rank").click()
    assert seen.say("alert") == "Type a query."
    assert axe.run(seen.page).response["violations"] == []


def test_light_and_dark_differ_as_asked(service: LiveService, visit: Open) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = visit(service.url, color_scheme="light").page.evaluate(paper)
    dark = visit(service.url, color_scheme="dark").page.evaluate(paper)
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(18, 22, 28)")


def test_a_thousand_documents(service: LiveService, visit: Open, tmp_path: Path) -> None:
    seen = visit(service.url)
    seen.type("number 7", [])
    numbers = tmp_path / "numbers.txt"
    numbers.write_text("\n".join(f"number {i}" for i in range(1000)))
    seen.open_file(numbers)
    seen.page.get_by_text("1,000 documents").wait_for()
    seen.page.get_by_label("jina-rerank-mini").uncheck()
    seen.page.get_by_label("small").check()
    seen.rank()
    assert sorted(seen.order("small")) == list(range(1000))
    assert seen.page.evaluate("window.moves") == [], "too many to follow"

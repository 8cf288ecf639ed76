"""The playground in Chromium: limits, code to copy, cancelling, and the API's page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from chromium import Visit
from serving import GatedModel, LiveService, served, until

from jina_rerank import LocalScorer, Reranker
from jina_rerank.server import ServedModel

pytestmark = pytest.mark.browser
Open = Callable[..., Visit]

KEY = "a-key-of-the-search-team"
QUERY = "What is the capital of France?"
DOCUMENTS = [
    "Berlin is the capital of Germany.",
    "Coffee is brewed from roasted beans.",
    "The capital of France is Paris.",
    "France is a country in Europe.",
]
MODEL = "jina-rerank-mini"
ANY_PAGE = "document.readyState === 'complete'"


def ranked(service: LiveService, visit: Open, **options: object) -> Visit:
    seen = visit(service.url, **options)
    seen.type(QUERY, DOCUMENTS)
    seen.rank()
    return seen


def left_out(seen: Visit, model: str = MODEL) -> list[bool]:
    return ["left out" in item.inner_text() for item in seen.ranking(model).all()]


def test_top_n_and_threshold_mark_what_they_leave_out(service: LiveService, visit: Open) -> None:
    seen = ranked(service, visit)
    with Reranker() as reranker:
        ranking = reranker.rank(QUERY, DOCUMENTS)
    assert left_out(seen) == [False] * 4
    keep, lowest = seen.page.get_by_label("Keep the best"), seen.page.get_by_label("Lowest score")
    keep.fill("3")
    assert left_out(seen) == [False, False, False, True]
    between = (ranking[0].score + ranking[1].score) / 2
    lowest.fill(f"{between:.4f}")
    assert left_out(seen) == [False, True, True, True]
    style = "item => getComputedStyle(item).borderTopStyle"
    lines = [item.evaluate(style) for item in seen.ranking(MODEL).all()]
    assert lines == ["none", "dashed", "none", "none"]
    keep.fill("")
    lowest.fill("1")
    assert left_out(seen) == [True] * 4
    # They stay for the next ranking, and go into links.
    lowest.fill("")
    keep.fill("1")
    seen.rank()
    assert left_out(seen) == [False, True, True, True]
    seen.page.get_by_role("button", name="Copy link").click()
    seen.page.get_by_label("Link to").wait_for()
    again = visit(seen.page.get_by_label("Link to").input_value())
    again.wait()
    assert left_out(again) == [False, True, True, True]


def test_limits_hold_for_a_ranking_while_others_are_computed(
    visit: Open, small_checkpoint: Path
) -> None:
    gated = GatedModel(small_checkpoint)
    small = ServedModel("small", Reranker(LocalScorer(small_checkpoint)))
    with LiveService([*served(gated), small]) as service:
        until(lambda: service.engine.ready)
        seen = visit(service.url)
        seen.type(QUERY, DOCUMENTS)
        seen.page.get_by_label("small").check()
        seen.rank()
        seen.page.get_by_label("Keep the best").fill("1")
        gated.hold()
        seen.page.get_by_role("button", name="Rank").click()
        seen.until("document.querySelector('[aria-busy=true] + [aria-busy=false]')")
        assert left_out(seen, "small") == [False, True, True, True]
        gated.release()
        seen.wait()
        assert left_out(seen, "gated") == [False, True, True, True]


def test_control_and_enter_rank_from_the_limits_too(service: LiveService, visit: Open) -> None:
    seen = ranked(service, visit)
    seen.type(QUERY, DOCUMENTS[:2])
    seen.page.get_by_label("Keep the best").press("Control+Enter")
    seen.until("document.querySelectorAll('li').length === 2")
    seen.wait()
    assert not seen.page.get_by_text("Edited since").is_visible()


RUNS = {
    "curl": (["bash"], "curl"),
    "Python": ([sys.executable, "-"], sys.executable),
    "JavaScript": (["node", "--input-type=module"], "node"),
}


def run_code(seen: Visit, language: str, *, check: bool) -> subprocess.CompletedProcess[str]:
    """Copy the code of a ranking, and run it."""
    command, program = RUNS[language]
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    return subprocess.run(
        command,
        input=code_of(seen, language),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        env={**os.environ, "JINA_RERANK_KEY": KEY},
        check=check,
    )


def code_of(seen: Visit, language: str) -> str:
    seen.page.get_by_role("button", name=language, exact=True).click()
    field = seen.page.get_by_label("Code for this ranking")
    field.wait_for()
    return field.input_value()


@pytest.mark.parametrize("language", RUNS)
def test_code_that_is_copied_ranks_the_same_and_has_no_key(
    visit: Open, small_checkpoint: Path, language: str
) -> None:
    texts = ['it\'s "quoted" \\n $HOME `x`', "a panda 🐼 is a bear", "coffee é\u2028 beans", "JSON"]
    texts.append("long " * 40_000)  # more than Linux takes in an argument
    with LiveService(models=(f"small={small_checkpoint}",), keys=f"search:{KEY}") as service:
        seen = visit(service.url)
        seen.page.get_by_label("API key").fill(KEY)
        seen.page.get_by_label("API key").press("Enter")
        seen.page.get_by_label("small").wait_for()
        seen.type("what's a panda?", texts)
        seen.rank()
        seen.page.get_by_label("Keep the best").fill("2")
        assert KEY not in code_of(seen, language)
        done = run_code(seen, language, check=True)
        order = seen.order("small")[:2]
    if language == "curl":
        found = [result["index"] for result in json.loads(done.stdout)["results"]]
    else:
        # U+2028 ends a line for some, and not for those who printed it.
        found = [int(line.split()[0]) for line in done.stdout.strip().split("\n")]
    assert found == order


def test_copied_javascript_ends_with_the_words_of_a_refusal(
    visit: Open, small_checkpoint: Path
) -> None:
    with LiveService(models=(f"small={small_checkpoint}",), max_documents=3) as service:
        seen = visit(service.url)
        seen.type(QUERY, DOCUMENTS)
        seen.rank()
        done = run_code(seen, "JavaScript", check=False)
    assert done.returncode == 1
    assert "413" in done.stderr
    assert "4 are more than 3" in done.stderr


def test_code_is_of_the_texts_and_the_model_that_were_ranked(
    service: LiveService, visit: Open
) -> None:
    seen = ranked(service, visit)
    seen.type("something else", ["another text"])
    seen.page.get_by_label("small").check()
    seen.page.get_by_role("checkbox", name=MODEL).uncheck()
    sent = json.loads(code_of(seen, "curl").split("\n", 3)[3].rpartition("JSON")[0])
    assert sent == {"model": MODEL, "query": QUERY, "documents": DOCUMENTS}


@pytest.mark.parametrize(
    ("label", "wrong", "right"),
    [("Keep the best", "0", "2"), ("Lowest score", "1.5", "0.5")],
)
def test_a_limit_that_cannot_be_used_is_not_left_out_of_what_is_copied(
    service: LiveService, visit: Open, label: str, wrong: str, right: str
) -> None:
    seen = ranked(service, visit)
    limit = seen.page.get_by_label(label)
    for button in ("curl", "Copy link"):
        limit.fill(wrong)
        seen.page.get_by_role("button", name=button, exact=True).click()
        # Where the browser shows its message.
        assert limit.evaluate("field => field === document.activeElement")
        assert not seen.page.get_by_label("Code for this ranking").is_visible()
        assert not seen.page.get_by_label("Link to").is_visible()
    limit.fill(right)
    assert f": {right}\n" in code_of(seen, "curl")


def test_cancelling_stops_the_work(visit: Open, small_checkpoint: Path) -> None:
    gated = GatedModel(small_checkpoint)
    with LiveService(served(gated)) as service:
        until(lambda: service.engine.ready)
        gated.hold()
        seen = visit(service.url)
        seen.type("q", ["a", "b"])
        cancel = seen.page.get_by_role("button", name="Cancel")
        assert not cancel.is_visible()
        seen.page.get_by_role("button", name="Rank").click()
        assert gated.computing.wait(20)
        cancel.click()
        assert seen.say("status") == "Cancelled."
        assert not cancel.is_visible()
        assert "cancelled" in seen.page.get_by_role("article").inner_text()
        until(lambda: service.engine.queue.requests == 0)
        gated.release()
        seen.rank()
        assert seen.ranking("gated").count() == 2
        assert not cancel.is_visible()


def test_rankings_of_texts_that_were_edited_are_marked(service: LiveService, visit: Open) -> None:
    seen = ranked(service, visit)
    note = seen.page.get_by_text("Edited since")
    assert not note.is_visible()
    query = seen.page.get_by_label("Query", exact=True)
    query.fill(f"{QUERY} Now?")
    assert note.is_visible()
    query.fill(QUERY)
    assert not note.is_visible()
    seen.page.get_by_label("Documents", exact=True).fill("\n".join(DOCUMENTS[:3]))
    assert note.is_visible()
    seen.rank()
    assert not note.is_visible()


def test_texts_from_right_to_left_stand_so(service: LiveService, visit: Open) -> None:
    seen = visit(service.url)
    seen.type("מה בירת צרפת?", ["בירת צרפת היא פריז", "Paris is the capital."])
    seen.rank()
    assert seen.page.locator("#query:dir(rtl)").count() == 1
    assert seen.page.locator("li .text:dir(rtl)").count() == 1
    assert seen.page.locator("li .text:dir(ltr)").count() == 1


def test_it_opens_with_an_example_whose_answer_comes_first(
    service: LiveService, visit: Open
) -> None:
    seen = visit(service.url)
    assert seen.page.get_by_text("How should I store coffee beans?").is_visible()
    seen.page.get_by_role("button", name="Try it").click()
    seen.wait()
    assert "airtight jar" in seen.ranking(MODEL).first.inner_text()
    assert seen.page.get_by_label("Query", exact=True).input_value().startswith("How should I")
    assert seen.page.evaluate("document.activeElement.id") == "rank"


def test_the_link_to_the_api_leads_to_a_page_that_can_be_read(
    service: LiveService, visit: Open
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for theme in ("light", "dark"):
        seen = visit(f"{service.url}/playground/api", ready=ANY_PAGE, color_scheme=theme)
        assert axe.run(seen.page).response["violations"] == []
    text = seen.page.inner_text("main")
    for path in ("/v1/rerank", "/v2/rerank", "/rerank", "/score", "/invocations", "/v1/models"):
        assert path in text
    assert "Maximum number of results; default: all documents." in text
    assert "Rank documents, as Cohere's API does" in text
    phone = visit(
        f"{service.url}/playground/api", ready=ANY_PAGE, viewport={"width": 360, "height": 640}
    )
    assert phone.page.evaluate("document.documentElement.scrollWidth") == 360
    seen.page.get_by_role("link", name="Back to the playground").click()
    seen.until("document.querySelector('#query')")
    seen.page.get_by_role("link", name="API").click()
    seen.until("document.title === 'API of jina-rerank'")


SIZES = {"phone": {"width": 360, "height": 640}, "desktop": {"width": 1280, "height": 880}}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_state_is_accessible_and_fits(
    small_checkpoint: Path, visit: Open, theme: str, size: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    models = [ServedModel("small", Reranker(LocalScorer(small_checkpoint, max_length=40)))]
    with LiveService(models) as service:
        until(lambda: service.engine.ready)
        seen = visit(service.url, color_scheme=theme, reduced_motion="reduce", viewport=SIZES[size])

        def check() -> None:
            assert axe.run(seen.page).response["violations"] == []
            width = seen.page.evaluate("document.documentElement.scrollWidth")
            assert width == SIZES[size]["width"]

        check()  # empty
        seen.type(
            QUERY, [f"{text} {i} " + "word " * (i % 60) for i in range(50) for text in DOCUMENTS]
        )
        seen.rank()  # 200 documents
        assert seen.ranking("small").count() == 200
        seen.page.get_by_label("Keep the best").fill("7")
        seen.page.get_by_role("button", name="Python", exact=True).click()
        seen.page.get_by_label("Code for this ranking").wait_for()
        seen.page.get_by_label("Query", exact=True).fill("something else")
        check()  # limits, stale
        seen.page.get_by_role("button", name="curl", exact=True).click()
        check()  # code
        seen.page.context.set_offline(True)
        seen.rank()
        assert "The service cannot be reached." in seen.say("alert")
        check()  # offline

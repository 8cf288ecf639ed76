"""The playground in Chromium: notes on what makes a ranking worth less."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from pathlib import Path

import httpx
import pytest
from chromium import Visit
from faults import FaultServer, Status
from serving import LiveService, until

from jina_rerank import LocalScorer, Reranker
from jina_rerank.scorers._pair_model import PairModel
from jina_rerank.server import ServedModel

pytestmark = pytest.mark.browser
Open = Callable[..., Visit]

QUERY = "What is the capital of France?"
DOCUMENTS = [
    "Berlin is the capital of Germany.",
    "Coffee is brewed from roasted beans.",
    "The capital of France is Paris.",
    "France is a country in Europe.",
]
MODEL = "jina-rerank-mini"
GERMAN = "Die Hauptstadt von Frankreich ist Paris."


def heading(seen: Visit, model: str) -> str:
    article = seen.page.get_by_role("article", name=model, exact=True)
    return article.locator("header").inner_text()


def left_out(seen: Visit, model: str) -> list[bool]:
    return ["left out" in item.inner_text() for item in seen.ranking(model).all()]


def test_an_answer_of_the_fallback_says_so_and_ignores_the_threshold(
    visit: Open, small_checkpoint: Path
) -> None:
    with FaultServer() as broken:
        broken.default = Status(503)
        models = (f"far=remote:far@{broken.url}", f"small={small_checkpoint}")
        with LiveService(models=models, fallback="small") as service:
            until(lambda: service.engine.ready)
            seen = visit(service.url)
            seen.type(QUERY, DOCUMENTS)
            seen.page.get_by_label("small").check()
            seen.rank()
    assert "Degraded: far could not answer; small did." in heading(seen, "far")
    assert "Degraded" not in heading(seen, "small")
    assert "Best with far, degraded: number" in seen.say("status")
    assert seen.order("far") == seen.order("small")
    seen.page.get_by_label("Lowest score").fill("1")
    assert left_out(seen, "far") == [False] * 4
    assert left_out(seen, "small") == [True] * 4
    seen.page.get_by_label("Keep the best").fill("3")
    assert left_out(seen, "far") == [False, False, False, True]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The capital of France is Paris.", ""),
        ("Paris", ""),
        ("def f(x): return 7", ""),
        ("2 + 2 = 4", ""),
        ("Die Hauptstadt von Frankreich ist Paris.", "perhaps not in English"),
        ("La capitale de la France est Paris.", "perhaps not in English"),
        ("La capital de España es Madrid y no Barcelona.", "perhaps not in English"),
        ("法国的首都是巴黎", "not in Latin letters"),
        ("Париж столица Франции", "not in Latin letters"),
        ("Tokyo (東京) is the capital of Japan.", ""),
        ("Was ist die Hauptstadt von Frankreich?", "perhaps not in English"),
        ("O que faz a capital do Brasil?", "perhaps not in English"),
        ("La La Land.", ""),
    ],
)
def test_a_text_that_the_model_hardly_reads_has_a_note(
    service: LiveService, visit: Open, text: str, said: str
) -> None:
    seen = visit(service.url)
    seen.type(QUERY, [text])
    seen.rank()
    shown = seen.ranking(MODEL).inner_text()
    assert ("reads English" in shown) == bool(said)
    assert said in shown


def test_a_query_that_the_model_hardly_reads_has_a_note(service: LiveService, visit: Open) -> None:
    seen = visit(service.url)
    seen.type("Wie heißt die Hauptstadt von Frankreich, und wo ist sie?", DOCUMENTS)
    seen.rank()
    note = "The query is perhaps not in English: this model reads English."
    assert note in heading(seen, MODEL)
    seen.type(QUERY, DOCUMENTS)
    seen.rank()
    assert "reads English" not in heading(seen, MODEL)


class LateScorer(LocalScorer):
    """Loads a model of its own when a test lets it."""

    def __init__(self, model: Path, gate: threading.Event) -> None:
        super().__init__(model)
        self._gate = gate

    def _key(self) -> Hashable:
        return self._gate

    def _load(self) -> PairModel:
        assert self._gate.wait(60)
        return super()._load()


def test_a_model_that_is_loaded_after_the_page_has_notes_too(
    visit: Open, small_checkpoint: Path
) -> None:
    gate = threading.Event()
    late = ServedModel("late", Reranker(LateScorer(small_checkpoint, gate)))
    with LiveService([late]) as service:
        try:
            seen = visit(service.url)
            (model,) = httpx.get(f"{service.url}/v1/models").json()["data"]
            assert model["family"] is None
        finally:
            gate.set()
        seen.type(QUERY, [GERMAN])
        seen.rank()
        assert "reads English" in seen.ranking("late").inner_text()


def test_the_share_of_tokens_that_was_cut_is_said(visit: Open, small_checkpoint: Path) -> None:
    documents = [*DOCUMENTS, "coffee" + " coffee" * 60]
    ranking = Reranker(LocalScorer(small_checkpoint, max_length=40)).rank(QUERY, documents)
    cut = sum(hit.truncated_tokens or 0 for hit in ranking)
    read = sum(hit.tokens or 0 for hit in ranking)
    with LiveService(models=(f"small={small_checkpoint}",), max_length=40) as service:
        seen = visit(service.url)
        seen.type(QUERY, documents)
        seen.rank()
        heading = seen.page.get_by_role("article").locator("header").inner_text()
    assert f"{round(100 * cut / (cut + read))}% of all documents' tokens" in heading

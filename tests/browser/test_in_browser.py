"""The page that ranks by itself, against Python's scores."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chromium import Visit
from families import write_reranker
from family_tokenizers import FAMILY_TOKENIZERS
from tokenizers import Tokenizer

from jina_rerank import LocalScorer, OnnxScorer, Reranker
from jina_rerank.embedded import embedded_model_folder
from jina_rerank.encoders import JinaBert
from jina_rerank.encoders.checkpoint import save_checkpoint
from jina_rerank.onnx import export_onnx

if TYPE_CHECKING:
    from jina_rerank import Ranking

pytestmark = pytest.mark.browser
Open = Callable[..., Visit]

PAGE = Path(__file__).parents[2] / "examples" / "browser"
FAMILIES = ["bert", "roberta", "modernbert"]
RANKED = "!document.getElementById('rank').disabled"
QUERY = "How should I store coffee beans?"
DOCUMENTS = [
    "Coffee beans keep best in an airtight jar, away from light, heat and moisture.",
    "Rinse the paper filter with hot water before you brew.",
    "x",
    "Überraschung: naïve façade, ÅNGSTRÖM «déjà vu»…",
    "熊猫是中国特有的熊科动物 🐼, 咖啡豆",
    "word" * 60,  # more characters than a word may have
    "Don't $tore @t 95°F! [SEP] [MASK] <b>beans</b> e.g. 3.14 \u200b\xa0 end",
]
LONG = " ".join(f"{text} ({number})" for number in range(9) for text in DOCUMENTS[:2])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model, exported as it is and as our trainer writes it, and other families."""
    if not (PAGE / "node_modules").is_dir():
        pytest.skip("needs transformers.js: make test-browser installs it")
    folder = tmp_path_factory.mktemp("models")
    embedded = embedded_model_folder()
    tokenizer = Tokenizer.from_file(str(embedded / "tokenizer.json"))
    ours = tmp_path_factory.mktemp("ours")
    save_checkpoint(JinaBert.from_pretrained(embedded), tokenizer, ours)
    export_onnx(ours, folder / "float32")
    export_onnx(None, folder / "int8", int8=True)
    for family in FAMILIES:
        checkpoint = tmp_path_factory.mktemp(family)
        write_reranker(checkpoint, family, vocab_size=800)
        FAMILY_TOKENIZERS[family](checkpoint)
        export_onnx(checkpoint, folder / family)
    return folder


@contextmanager
def serve(page: Path, models: Path) -> Iterator[str]:
    """Serve a copy of the page as `make browser` does; gives its address."""
    command = [sys.executable, str(page / "serve.py"), "--port", "0", "--models", str(models)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def address(models: Path) -> Iterator[str]:
    """The page's address."""
    with serve(PAGE, models) as found:
        yield found


def rank(seen: Visit, model: str, query: str, documents: list[str]) -> list[dict]:
    """The ranking that the page shows, best first."""
    seen.page.get_by_label("Model").select_option(model)
    seen.page.get_by_label("Query").fill(query)
    seen.page.get_by_label("Documents").fill("\n".join(documents))
    seen.page.get_by_role("button", name="Rank").click()
    seen.until(RANKED)
    assert seen.say("status").startswith("Ranked")
    items = seen.page.get_by_role("listitem").evaluate_all(
        "items => items.map((item) => ({ ...item.dataset }))"
    )
    return [{name: float(value) for name, value in item.items()} for item in items]


def assert_agree(found: list[dict], expected: Ranking, within: float) -> None:
    by_index = {hit.index: hit for hit in expected}
    assert len(found) == len(by_index)
    for item in found:
        hit = by_index[item["index"]]
        assert item["score"] == pytest.approx(hit.score, abs=within)
        assert (item["tokens"], item["cut"]) == (hit.tokens, hit.truncated_tokens)
    scores = [item["score"] for item in found]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("max_length", [8192, 64])
def test_scores_are_pythons(address: str, visit: Open, max_length: int) -> None:
    seen = visit(f"{address}?max-length={max_length}", ready=RANKED)
    scorer = LocalScorer(dtype="float32", device="cpu", max_length=max_length)
    documents = [*DOCUMENTS, LONG]
    with Reranker(scorer) as reranker:
        for query in (QUERY, f"{QUERY} {LONG}"):
            expected = reranker.rank(query, documents)
            assert (expected.usage.truncated_documents > 0) == (max_length == 64)
            assert_agree(rank(seen, "float32", query, documents), expected, 1e-3)


def test_scores_in_8_bits_are_those_of_the_same_file_in_python(
    address: str, visit: Open, models: Path
) -> None:
    seen = visit(address, ready=RANKED)
    found = rank(seen, "int8", QUERY, DOCUMENTS)
    with Reranker(OnnxScorer(models / "int8")) as reranker:
        # One at a time, as the page does: in 8 bits a score depends on what is computed with it.
        alone = [reranker.rank(QUERY, [document])[0] for document in DOCUMENTS]
    # Its kernels round otherwise, and what rounding to 8 bits does to a logit is some tenths.
    for item in found:
        assert item["score"] == pytest.approx(alone[int(item["index"])].score, abs=0.05)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_another_family_scores_as_in_python(
    address: str, visit: Open, models: Path, family: str
) -> None:
    seen = visit(address, ready=RANKED)
    documents = [*DOCUMENTS, LONG, " ".join([LONG] * 3)]
    with Reranker(OnnxScorer(models / family)) as reranker:
        expected = reranker.rank(QUERY, documents)
    # BERT and RoBERTa have 512 positions, whatever the page allows.
    assert (expected.usage.truncated_documents > 0) == (family != "modernbert")
    assert len({round(hit.score, 3) for hit in expected}) > len(documents) // 2
    assert_agree(rank(seen, family, QUERY, documents), expected, 1e-3)


def test_the_page_lists_the_exported_folders_with_the_smallest_first(
    address: str, visit: Open, models: Path
) -> None:
    seen = visit(address, ready="document.getElementById('model').length")
    listed = seen.page.get_by_label("Model").locator("option").all_text_contents()
    assert set(listed) == {"int8", "float32", *FAMILIES}
    sizes = [(models / name / "model.onnx").stat().st_size for name in listed]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_accessible_and_fits(address: str, visit: Open, theme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    seen = visit(address, ready=RANKED, color_scheme=theme, viewport={"width": 360, "height": 640})
    rank(seen, "int8", QUERY, ["x" * 200, "<img src=y onerror='window.hacked = 1'>"])
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 360
    assert seen.page.evaluate("window.hacked") is None
    assert axe.run(seen.page).response["violations"] == []


def test_a_model_that_is_not_there_is_said(address: str, visit: Open, models: Path) -> None:
    moved = models / "gone"
    seen = visit(address, ready="document.getElementById('model').length")
    (models / "int8").rename(moved)
    try:
        seen.page.get_by_label("Model").select_option("int8")
        seen.page.get_by_role("button", name="Rank").click()
        seen.until(f"{RANKED} && document.getElementById('status').textContent")
        assert "models/int8" in seen.say("status")
    finally:
        shutil.move(moved, models / "int8")


def test_a_worker_that_cannot_be_loaded_is_said(models: Path, visit: Open, tmp_path: Path) -> None:
    page = tmp_path / "page"
    shutil.copytree(PAGE, page, ignore=shutil.ignore_patterns("node_modules", "models"))
    with serve(page, models) as address:
        seen = visit(address, ready="document.getElementById('status').textContent")
        assert "is transformers.js there?" in seen.say("status")
        assert seen.page.get_by_role("button", name="Rank").is_disabled()


@pytest.mark.parametrize("length", ["abc", "0", "15", "64.5"])
def test_a_maximum_length_that_is_none_is_said(address: str, visit: Open, length: str) -> None:
    seen = visit(f"{address}?max-length={length}", ready=RANKED)
    seen.page.get_by_role("button", name="Rank").click()
    seen.until(f"{RANKED} && document.getElementById('status').textContent")
    assert seen.say("status") == "The maximum length must be a whole number from 16."
    assert seen.page.get_by_role("listitem").count() == 0


def test_blanks_are_neither_a_query_nor_documents(address: str, visit: Open) -> None:
    seen = visit(address, ready=RANKED)
    for query, documents in ((" ", "a"), ("q", " \n ")):
        seen.page.get_by_label("Query").fill(query)
        seen.page.get_by_label("Documents").fill(documents)
        seen.page.get_by_role("button", name="Rank").click()
        assert seen.say("status") == "Type a query, and documents, one per line."


def test_texts_from_right_to_left_stand_so(address: str, visit: Open) -> None:
    seen = visit(address, ready=RANKED)
    rank(seen, "int8", "מה בירת צרפת?", ["בירת צרפת היא פריז", "Paris is the capital."])
    assert seen.page.locator("#query:dir(rtl), #documents:dir(rtl)").count() == 2
    assert seen.page.locator("li > span:dir(rtl)").count() == 1

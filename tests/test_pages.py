"""Pages' figures: every figure in a block is compared with the code, and the comparison works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import FENCE, OUTPUT, REQUEST, check_same, pages, unchecked_figures

from jina_rerank._installed import CPU_BUILD, WITH_TORCH

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_block_shows_a_figure_that_nothing_compares(page: Path) -> None:
    found = [
        f"{page.relative_to(ROOT)}:{line}: {text}"
        for line, text in unchecked_figures(page.read_text(encoding="utf-8"))
    ]
    assert not found, (
        "put <!--- output --> before what the block above prints, or <!--- measured -->"
    )


@pytest.mark.parametrize(
    ("shown", "given", "varies"),
    [
        ("1 0.9881308789536605", "1  0.98784529\n", None),  # bfloat16 and float32
        ('{"id": "756c9a196470a692", "n": 42}', '{"id":"0f4b2e8c9d1a7730","n":42}', None),
        ('{"id": "score-756c9a196470a692"}', '{"id": "score-0f4b2e8c9d1a7730"}', None),
        ('{"created": 1796021459}', '{"created": 1899999999}', None),
        ("| mini | 0.716 | 7.2 | 86,530 |", "| mini | 0.712 | 9.9 | 86,530 |", "7.2"),
        ("7.2 of 56", "1.1 of 90", "7.2 and 56"),
    ],
)
def test_what_machines_and_runs_differ_in_is_the_same(
    shown: str, given: str, varies: str | None
) -> None:
    check_same(shown, given, varies)


@pytest.mark.parametrize(
    ("shown", "given", "varies"),
    [
        ("1 0.9742014657934895", "1 0.9881308789536605", None),
        ("0 0.04415016750048506", "0 0.3960681662740417", None),
        ("0.98813088 1", "0.98813088 2", None),
        ("0.5", "0.5 and more", None),
        ("tokens: 42", "tokens: 43", None),
        ('{"total_tokens": 42}', '{"total_tokens": 42, "more": 1}', None),
        ('{"object": "list"}', '{"object": "rerank"}', None),
        ("logit 4.42", "logit 3.63", None),
        ("7.2 of 56", "7.2 of 90", "7.2"),
        ("0.716", "0.716", "7.2"),  # named, and not there
    ],
)
def test_anything_else_is_not(shown: str, given: str, varies: str | None) -> None:
    with pytest.raises(AssertionError):
        check_same(shown, given, varies)


def test_figures_are_found_wherever_a_block_shows_them() -> None:
    page = (
        "```python\nprint(score)  # 0.97420147\nlimit = 0.25\n```\n\n"
        "```text\n1 0.97\n```\n\n"
        '```json\n{"score": 0.97420147}\n```\n\n'
        "<!--- measured -->\n\n```text\n2.13 s\n```\n\n"
        "<!--- output -->\n\n```text\n0.97\n```\n\n"
        '```text\nPOST /score\n{"text_1": "a"}\n\n{"score": 0.97}\n```\n'
    )
    assert [line for line, _ in unchecked_figures(page)] == [2, 7, 11]


def test_an_output_ends_where_its_comment_says() -> None:
    table = "| mini | 0.716 |\n\n| mix | 0.670 |\n\n"
    (match,) = OUTPUT.finditer(
        f"<!--- output: 7.2 and 56 vary -->\n\n{table}<!--- end of output -->\n"
    )
    assert (match["plain"], match["varies"]) == (table, "7.2 and 56")


def test_a_request_may_have_no_body() -> None:
    match = REQUEST.match('GET /info\n\n{"model_id": "small"}')
    assert match is not None
    assert (match["path"], match["body"], match["answer"]) == (
        "/info",
        None,
        '{"model_id": "small"}',
    )


@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_block_that_installs_torch_begins_with_the_one_without_cuda(page: Path) -> None:
    for block in FENCE.finditer(page.read_text(encoding="utf-8")):
        for extras in re.findall(r"pip install .*jina-rerank\[([\w,-]+)\]", block["text"]):
            if not WITH_TORCH.isdisjoint(extras.split(",")):
                assert block["text"].startswith(CPU_BUILD), block["text"]


def test_llms_txt_lists_every_page_of_the_site_and_no_other() -> None:
    text = (ROOT / "docs" / "llms.txt").read_text(encoding="utf-8")
    title, blank, summary, *_ = text.splitlines()
    assert title.startswith("# ")
    assert blank == ""
    assert summary.startswith("> ")
    listed = re.findall(r"^- \[[^]]+\]\(https://\S+/main/docs/(\S+)\): \S", text, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))

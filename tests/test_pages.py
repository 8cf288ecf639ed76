"""Pages' figures: every figure in a block is compared with the code, and the comparison works."""

from __future__ import annotations

import contextlib
import io
import re
import tomllib
from pathlib import Path

import pytest
from pages import (
    FENCE,
    OUTPUT,
    REQUEST,
    anchors,
    check_same,
    links,
    outputs,
    pages,
    unchecked_figures,
)

import jina_rerank
from jina_rerank._installed import CPU_BUILD, WITH_TORCH

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/jina-rerank/jina-rerank"
IN_REPOSITORY = re.compile(
    r"https://(?:github\.com/jina-rerank/jina-rerank/(?:blob|tree|raw)"
    r"|raw\.githubusercontent\.com/jina-rerank/jina-rerank)/main/(?P<path>[^#]+)(?:#(?P<anchor>.+))?"
)
REFERENCE = ROOT / "docs" / "reference"
ON_PYPI = [ROOT / "README.md", *sorted(ROOT.glob("integrations/*/README.md"))]
"""The pages that an index shows, where no link is relative to a repository."""
FRONT = [ROOT / "README.md", ROOT / "docs" / "index.md"]
"""The pages that a stranger reads first."""


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
    docs = ROOT / "docs"
    text = (docs / "llms.txt").read_text(encoding="utf-8")
    title, blank, summary, *_ = text.splitlines()
    assert title.startswith("# ")
    assert blank == ""
    assert summary.startswith("> ")
    listed = re.findall(r"^- \[[^]]+\]\(https://\S+/main/docs/(\S+)\): \S", text, re.MULTILINE)
    # The reference is written when the site is built: its first page stands for the others.
    written = [*docs.glob("*.md"), docs / "reference" / "index.md"]
    assert sorted(listed) == sorted(path.relative_to(docs).as_posix() for path in written)


def test_the_site_has_every_page_in_its_navigation_once() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r"^ +- (?:\w+: )?(\S+\.md)$", navigation, re.MULTILINE)
    docs = ROOT / "docs"
    assert sorted(listed) == sorted(
        path.relative_to(docs).as_posix() for path in docs.rglob("*.md")
    )


def test_the_reference_has_every_public_name_once() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in REFERENCE.glob("*.md"))
    listed = re.findall(r"^::: jina_rerank\.([A-Z]\w+)$|^        - (\w+)$", text, re.MULTILINE)
    errors = {
        name
        for name in jina_rerank.__all__
        if getattr(jina_rerank, name).__module__ == "jina_rerank.errors"
    }
    assert "::: jina_rerank.errors\n" in text
    names = [one or other for one, other in listed]
    assert sorted(names) == sorted(set(jina_rerank.__all__) - errors)


@pytest.mark.parametrize("page", ON_PYPI, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_that_an_index_shows_has_no_relative_link(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    inside = {f"#{anchor}" for anchor in anchors(text)}
    relative = [link for link in links(text) if not link.startswith("https://")]
    assert set(relative) <= inside
    defined = re.findall(r"^\[([^]\n]+)\]: ", text, re.MULTILINE)
    used = re.findall(r"\]\[([^]\n]+)\]", FENCE.sub("", text))
    assert set(used) == set(defined)


@pytest.mark.parametrize(
    "page", [*pages(ROOT), ROOT / "docs" / "llms.txt"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_into_the_repository_lead_to_what_is_there(page: Path) -> None:
    for link in links(page.read_text(encoding="utf-8")):
        if match := IN_REPOSITORY.fullmatch(link):
            target = ROOT / match["path"]
            assert target.exists(), link
            if match["anchor"] and target.suffix == ".md":
                assert match["anchor"] in anchors(target.read_text(encoding="utf-8")), link
        elif link.startswith(f"{REPOSITORY}/actions/workflows/"):
            name = link.removeprefix(f"{REPOSITORY}/actions/workflows/").removesuffix("/badge.svg")
            assert (ROOT / ".github" / "workflows" / name).exists(), link


def test_the_badges_are_of_this_package_and_say_what_its_metadata_says() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    badges = dict(re.findall(r"^\[!\[(\w+)\]\((\S+)\)\]\[", text, re.MULTILINE))
    assert list(badges) == ["CI", "Version", "Python", "Licence", "Types"]
    name = settings["project"]["name"]
    assert badges["Version"].endswith(f"/pypi/v/{name}")
    assert badges["Python"].endswith(f"/pypi/pyversions/{name}")
    licence = settings["project"]["license"].replace("-", "--")
    assert f"/licence-{licence}-" in badges["Licence"]
    assert settings["tool"]["mypy"]["strict"]
    assert "mypy%20strict" in badges["Types"]


@pytest.mark.parametrize("page", FRONT, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_block_of_a_front_page_runs_alone_and_prints_what_is_shown(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JINA_API_KEY", "jina_of_the_documentation")
    text = page.read_text(encoding="utf-8")
    shown = {text.rfind("```python", 0, match.start()): match for match in outputs(text)}
    blocks = [block for block in FENCE.finditer(text) if block["kind"] == "python"]
    assert len(blocks) > 3
    for block in blocks:
        code = compile(block["text"], str(page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, {"__name__": "pasted"})
        if match := shown.get(block.start()):
            check_same(match["fenced"], printed.getvalue(), match["varies"])


@pytest.mark.parametrize("page", FRONT, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_front_page_installs_and_shows_a_result_and_the_frameworks_before_it_lists_pages(
    page: Path,
) -> None:
    text = page.read_text(encoding="utf-8")
    first = (
        "pip install",
        "Reranker()  # ",
        "from llama_index.postprocessor.jina_rerank import",
        "from langchain_jina_rerank import",
        "from haystack_integrations.components.rankers.jina_rerank import",
        "](models.md)" if page.name == "index.md" else "[models]: ",
    )
    places = [text.index(words) for words in first]
    assert places == sorted(places)

"""The files for other projects' lists: their fields, and examples that run."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
LISTINGS = ROOT / "listings"


def run_block(page: str, capsys: object) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(block, {"__name__": "listing"})
    return capsys.readouterr().out  # type: ignore[attr-defined]


def test_haystacks_page_has_the_required_fields_and_its_example_runs(capsys: object) -> None:
    text = (LISTINGS / "haystack" / "jina-rerank.md").read_text(encoding="utf-8")
    _, front, page = text.split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["layout"] == "integration"
    assert fields["type"] == "Custom Component"
    assert {"name", "description", "authors", "pypi", "repo", "report_issue"} <= fields.keys()
    assert run_block(page, capsys) == "Berlin is the capital of Germany.\n"


def test_langchains_row_names_the_package_and_a_page_that_is_there() -> None:
    path = LISTINGS / "langchain" / "integration_external_docs.yaml"
    (row,) = yaml.safe_load(path.read_text(encoding="utf-8"))["python"]["retrievers"]
    project = tomllib.loads((ROOT / "integrations/langchain/pyproject.toml").read_text("utf-8"))
    assert row["pypi"] == project["project"]["name"]
    assert (ROOT / row["docs_url"].partition("/blob/main/")[2]).is_file()


def test_llamahubs_request_runs_and_its_metadata_name_the_class(capsys: object) -> None:
    page = (LISTINGS / "llamahub" / "feature-request.md").read_text(encoding="utf-8")
    assert run_block(page, capsys) == "Paris is the capital of France.\n"
    project = tomllib.loads((ROOT / "integrations/llama-index/pyproject.toml").read_text("utf-8"))
    hub = project["tool"]["llamahub"]
    assert f"from {hub['import_path']} import {next(iter(hub['class_authors']))}" in page

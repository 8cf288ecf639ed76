"""The tables of the page "Scale", from what was measured."""

import json
import math
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MEASURED = json.loads((ROOT / "benchmarks/results/announcement.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs/scale.md").read_text(encoding="utf-8")

PAIRS, DOCUMENTS, IN_USE, PRICE, HOURS = 100, 20, 0.6, 0.05, 730
REQUESTS = (1, 100, 10_000)


def cells(heading: str, model: str) -> list[int]:
    """The numbers of a row of the table with that heading."""
    table = PAGE[PAGE.index(f"| {heading}") :]
    (row,) = re.findall(rf"^\| {model} \|(.*)\|$", table[: table.index("\n\n")], re.MULTILINE)
    return [int(cell.replace(",", "")) for cell in row.split("|")]


@pytest.mark.parametrize("size", ["tiny", "turbo", "base"])
def test_the_tables_follow_from_the_formulas(size: str) -> None:
    model = f"jina-reranker-v1-{size}-en"
    rate = PAIRS / MEASURED["medians"][model] / MEASURED["machine"]["cores"]
    cores = [math.ceil(requests * DOCUMENTS / (rate * IN_USE)) for requests in REQUESTS]
    assert cells("cores for requests a second", model) == cores
    costs = [math.ceil(count * PRICE * HOURS) for count in cores]
    assert cells("cost a month for requests a second", model) == costs

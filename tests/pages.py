"""Compare the output that a page of the documentation shows with what its code gives.

A comment `<!--- output -->` stands before what the block of code above printed: a fenced block, or
anything up to `<!--- end of output -->`. A block of text that begins with `POST /path` or with
`GET /path` is a request, and behind a blank line its answer.

Digits that depend on the machine may differ: a number between 0 and 1 by as much as the arithmetic
moves it. What differs from run to run is named in the comment, `<!--- output: 7.2 and 56 vary -->`,
and may be any number there. Ids and points in time may be any.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

LOGIT_TOLERANCE = 0.12
"""By how much logits move between bfloat16 and float32, which differ from machine to machine."""

NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?")
ID = re.compile(r"(?<![\w.])[0-9a-f]{16}\b")
FENCE = re.compile(r"^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
OUTPUT = re.compile(
    r"^<!--- output(?:: (?P<varies>.+?) var(?:y|ies))? -->\n+"
    r"(?:```[^\n]*\n(?P<fenced>.*?)^```$|(?P<plain>.*?)^<!--- end of output -->$)",
    re.MULTILINE | re.DOTALL,
)
REQUEST = re.compile(
    r"\A(?P<method>GET|POST) (?P<path>/\S*)\n(?:(?P<body>.+?)\n)?\n(?P<answer>.+)\Z", re.DOTALL
)
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)|^\[[^]\n]+\]: (?P<defined>\S+)$", re.MULTILINE)
FIGURE = re.compile(r"\d\.\d{2,}")


def check_same(shown: str, given: str, varies: str | None = None) -> None:
    """Compare what a page shows with what its code gave.

    Args:
        shown: The page's.
        given: The code's.
        varies: Numbers of the page that may be any here, between commas or `and`.

    Raises:
        AssertionError: They differ; it shows both.
    """
    free = set(re.split(r",\s+|\s+and\s+", varies)) if varies else set()
    theirs, ours = _plain(shown), _plain(given)
    numbers, found = NUMBER.findall(theirs), NUMBER.findall(ours)
    unknown = free - set(numbers)
    assert not unknown, f"the page shows no {', '.join(sorted(unknown))}"
    same = NUMBER.sub("0", theirs) == NUMBER.sub("0", ours) and all(
        one in free or is_near(one, other) for one, other in zip(numbers, found, strict=True)
    )
    assert same, f"the page shows\n{shown}\nand its code gives\n{given}"


def is_near(shown: str, given: str) -> bool:
    """Tell whether two numbers differ in nothing but what machines may differ in.

    Whole numbers are equal, but for points in time. Of a number between 0 and 1 the logits are
    near; of any other with a fraction it is itself.
    """
    one, other = (float(number.replace(",", "")) for number in (shown, given))
    if "." not in shown:
        return one == other or min(one, other) > 1.7e9
    rounding = 0.5 * 10.0 ** -len(shown.partition(".")[2])
    if 0 < one < 1 and 0 < other < 1:
        one, other, rounding = _logit(one), _logit(other), rounding / (one * (1 - one))
    return abs(one - other) <= LOGIT_TOLERANCE + rounding


def outputs(page: str) -> Iterator[re.Match[str]]:
    """The places of a page at which an output is shown."""
    return OUTPUT.finditer(page)


def unchecked_figures(page: str) -> Iterator[tuple[int, str]]:
    """Lines of blocks that show a figure which nothing compares, with their numbers.

    What was measured once says so before its block: `<!--- measured -->`.
    """
    checked = [(match.start(), match.end()) for match in outputs(page)]
    for block in FENCE.finditer(page):
        inside = any(start <= block.start() < end for start, end in checked)
        measured = page[: block.start()].rstrip().endswith("<!--- measured -->")
        if inside or measured or REQUEST.match(block["text"].rstrip()):
            continue
        first = page.count("\n", 0, block.start()) + 2
        code = block["kind"] in {"python", "py", "bash", "console", "toml", "yaml"}
        for i, line in enumerate(block["text"].splitlines()):
            # Code is run, or has settings; what its comments say is compared with nothing.
            said = line.partition("#")[2] if code else line
            if FIGURE.search(said):
                yield first + i, line


def links(page: str) -> list[str]:
    """Where the links and the pictures of a page lead, without those in its code."""
    found = LINK.finditer(FENCE.sub("", page))
    return [match["target"] or match["defined"] for match in found]


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site write them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page), re.MULTILINE)
    words = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"\s", "-", heading) for heading in words}


def pages(root: Path) -> list[Path]:
    """All pages whose blocks are run."""
    return [
        root / "README.md",
        *sorted((root / "docs").rglob("*.md")),
        *sorted((root / "integrations").glob("*/README.md")),
    ]


def _plain(text: str) -> str:
    """JSON without its layout and ids; other text with single blanks, and without ids."""
    try:
        text = json.dumps(json.loads(text), ensure_ascii=False)
    except ValueError:
        text = " ".join(text.split())
    return ID.sub("ID", text)


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))

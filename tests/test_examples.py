"""The examples as a newcomer runs them: each in a process of its own, without a network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HAYSTACK_TELEMETRY_ENABLED": "False"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_here() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    rags = {"haystack_rag.py", "langchain_rag.py", "llama_index_rag.py"}
    assert names == {"demo.py", "quickstart.py", *rags}


def test_quickstart_finds_the_three_about_skin() -> None:
    lines = run("quickstart.py").splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("Natural organic skincare range for sensitive skin")
    assert all("skin" in line for line in lines)


def test_demo_shows_both_orders_side_by_side() -> None:
    shown = run("demo.py")
    assert "jina-rerank-mini" in shown
    assert "Organic skincare products for sensitive skin" in shown
    assert shown.count("BM25's best 5 of 50") == 2
    assert shown.count("reranked") == 3
    assert "place 10 before, 1 after" in shown
    assert "place 15 before, 1 after" in shown


@pytest.mark.parametrize(
    ("name", "answer"),
    [("haystack_rag.py", "439"), ("langchain_rag.py", "103"), ("llama_index_rag.py", "57")],
)
def test_a_retrieval_in_each_framework_brings_the_judged_answer_up(name: str, answer: str) -> None:
    before, after = re.split(r"^(?:Reranked|JinaRanker)\b", run(name), flags=re.MULTILINE)
    assert f"[{answer}]" not in before
    assert f"[{answer}]" in after.splitlines()[1], "the first place"

"""The documentation's tables are those of the results, and a target says what it means."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest
from benchmarks import ours, report
from benchmarks.__main__ import WORKLOADS
from benchmarks.measuring import RESULTS, Contender, Result, Target, interleave
from benchmarks.rivals import Rivals, require
from benchmarks.shapes import VOCABULARY, save_jinabert

from jina_rerank import LocalScorer, Reranker
from jina_rerank.encoders import JinaBertConfig
from jina_rerank.scorers.device import Dtype

SAVED = {path.stem: json.loads(path.read_text("utf-8")) for path in RESULTS.glob("*.json")}


@pytest.mark.parametrize("document", ["README.md", "docs/models.md", "docs/performance.md"])
def test_tables_were_written_from_the_results(document: str, tmp_path: Path) -> None:
    original = report.ROOT / document
    copy = tmp_path / "copy.md"
    blocks = r"(<!-- results: [\w-]+ -->\n).*?(<!-- end -->)"
    emptied = re.sub(blocks, r"\1\2", original.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert emptied != original.read_text(encoding="utf-8")
    copy.write_text(emptied, encoding="utf-8")
    report.fill(copy, report.all_blocks(SAVED))
    assert copy.read_text(encoding="utf-8") == original.read_text(encoding="utf-8")


def test_every_result_is_in_the_documentation() -> None:
    page = (report.ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for name in SAVED:
        assert f"<!-- results: {name} -->" in page
        assert f"<!-- results: {name}-targets -->" in page


@pytest.mark.parametrize("feed_forward_type", ["geglu", "original"])
def test_a_saved_shape_can_be_loaded(feed_forward_type: str, tmp_path: Path) -> None:
    """Whatever kind the embedded model is of, whose tokenizer it takes."""
    shape = {"hidden_size": 48, "num_hidden_layers": 1, "intermediate_size": 64}
    config = JinaBertConfig(vocab_size=VOCABULARY, feed_forward_type=feed_forward_type, **shape)
    folder = save_jinabert(tmp_path / "small", config)
    assert JinaBertConfig.from_file(folder / "config.json") == config
    assert len(Reranker(LocalScorer(folder)).score("a", ["b", "c"])) == 2


def test_a_target_knows_its_direction() -> None:
    assert Target("speed", 2, 2.0).met
    assert not Target("speed", 2, 1.9).met
    assert Target("memory", 300, 299, at_least=False).met
    assert not Target("memory", 300, 301, at_least=False).met


def test_rounds_are_interleaved_and_the_first_does_not_count() -> None:
    called: list[str] = []
    seconds = interleave({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 2)
    assert called == ["a", "b"] * 3
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_the_median_is_of_the_rounds() -> None:
    assert Result("x", "", seconds={"a": [3.0, 1.0, 2.0]}).median("a") == 2.0


def test_every_benchmark_is_a_module_and_names_its_result() -> None:
    for name in WORKLOADS:
        assert find_spec(f"benchmarks.{name}") is not None
    assert {name: saved["workload"] for name, saved in SAVED.items()} == {
        name: name for name in SAVED
    }
    assert WORKLOADS.keys() >= SAVED.keys()


def test_a_rival_that_is_not_installed_is_left_out_with_the_reason() -> None:
    rivals = Rivals()

    def missing() -> Contender:
        require("not_installed_anywhere")
        return lambda: None

    rivals.add("missing", missing)
    rivals.add("there", lambda: lambda: None)
    assert list(rivals.contenders) == ["there"]
    assert rivals.figures("turbo: ") == {
        "left out: turbo: missing": "not_installed_anywhere is not installed"
    }


def test_our_contenders_are_the_dtypes_that_the_engine_offers(tmp_path: Path) -> None:
    shape = {"hidden_size": 48, "num_hidden_layers": 1, "intermediate_size": 64}
    folder = save_jinabert(tmp_path / "small", JinaBertConfig(vocab_size=VOCABULARY, **shape))
    contenders = ours.from_text(folder, "a", ["b", "c"])
    offered = {dtype for dtype in get_args(Dtype) if dtype != "auto"}
    assert contenders.keys() == {ours.label(dtype) for dtype in offered}
    for run in contenders.values():
        run()

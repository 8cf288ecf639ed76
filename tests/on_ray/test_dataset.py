"""Offline scoring of Parquet on Ray Data."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clustering import eventually

from jina_rerank import ConfigurationError, LocalScorer, ModelLoadError, Reranker

pytest.importorskip("ray", reason="the extra ray is not installed")

import ray
from holding_scorer import HoldingScorer

from jina_rerank.ray import rerank_dataset

# Ray Data sets its own settings that it has deprecated.
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:ray"),
]

QUERIES = ["what is the giant panda?", "how is coffee brewed?"]
TEXTS = [
    "the giant panda is a bear",
    "espresso needs pressure",
    "paris is the capital of france",
]


def write(path: Path, rows: int = 12, group: int = 4, first: int = 0) -> pa.Table:
    """Rows with a query, a document and columns of other kinds."""
    numbers = range(first, first + rows)
    table = pa.table(
        {
            "id": numbers,
            "query": [QUERIES[n % 2] for n in numbers],
            "document": [f"{TEXTS[n % 3]}, says page {n}" for n in numbers],
            "tags": [[str(n)] * (n % 3) for n in numbers],
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)
    return table


def score(model: Path, table: pa.Table) -> list[float]:
    """Each pair by itself."""
    with Reranker(LocalScorer(model)) as reranker:
        return [reranker.score(row["query"], [row["document"]])[0] for row in table.to_pylist()]


def read(folder: Path) -> pa.Table:
    """The rows that were written, by another reader than Ray's."""
    return pq.read_table(folder).sort_by("id")


@pytest.fixture(scope="module")
def finished(
    cluster: str, small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with what went in and what came out. Not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    write(folder / "in" / "day=1" / "a.parquet")
    write(folder / "in" / "day=1" / "b.parquet", first=12)
    rerank_dataset(folder / "in", folder / "out", model=small_checkpoint, actors=2)
    return folder


def test_every_row_is_scored_and_keeps_its_columns(finished: Path, small_checkpoint: Path) -> None:
    table, scored = read(finished / "in"), read(finished / "out")
    assert scored.select(table.column_names) == table
    assert scored["score"].to_pylist() == pytest.approx(score(small_checkpoint, table), abs=1e-6)
    assert scored["score_error"].null_count == len(table) == 24
    names = {file.name for file in (finished / "out" / "day=1").iterdir()}
    assert names == {f"{file}-0000{group}.parquet" for file in "ab" for group in range(3)}


def test_a_dataset_of_lists_is_scored_list_by_list(cluster: str, small_checkpoint: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"question": QUERIES[0], "chunks": TEXTS},
        {"question": QUERIES[1], "chunks": TEXTS[:1]},
        {"question": QUERIES[1], "chunks": []},
        {"question": " ", "chunks": TEXTS},
    ]
    scored = rerank_dataset(
        ray.data.from_items(rows),
        model=small_checkpoint,
        query_column="question",
        document_column="chunks",
        score_column="relevance",
    ).take_all()
    with Reranker(LocalScorer(small_checkpoint)) as reranker:
        for row in scored[:2]:
            expected = reranker.score(row["question"], row["chunks"])
            assert row["relevance"] == pytest.approx(expected, abs=1e-6)
    assert scored[2]["relevance"] == []
    assert scored[3]["relevance"] is None
    assert scored[3]["relevance_error"].startswith("question: is blank")


DRIVER = """
import sys, ray
from pathlib import Path
from holding_scorer import HoldingScorer
from jina_rerank.ray import rerank_dataset

address, source, output, model, gate = sys.argv[1:]
ray.init(address, log_to_driver=False)
scorer = HoldingScorer(Path(model), 3, Path(gate))
rerank_dataset(source, output, model=scorer)
"""


def test_what_was_finished_before_a_kill_is_not_computed_again(
    cluster: str, small_checkpoint: Path, tmp_path: Path
) -> None:
    table = write(tmp_path / "in" / "a.parquet", rows=40)
    output, gate = tmp_path / "out", tmp_path / "gate"
    paths = [cluster, tmp_path / "in", output, small_checkpoint, gate]
    tests = str(Path(__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", DRIVER, *map(str, paths)],
        env={**os.environ, "PYTHONPATH": tests},
        stderr=subprocess.DEVNULL,
    ) as driver:
        eventually(lambda: len(list(output.glob("a-*.parquet"))) == 3)
        eventually(lambda: bool(list(output.glob("_unfinished-*"))))
        driver.send_signal(signal.SIGKILL)
    finished = {file: file.stat() for file in output.glob("a-*.parquet")}
    assert len(finished) == 3
    gate.touch()

    found = rerank_dataset(tmp_path / "in", output, model=HoldingScorer(small_checkpoint, 0, gate))

    assert found.count() == 40
    for file, before in finished.items():
        after = file.stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    scored = read(output)
    assert scored.select(table.column_names) == table
    assert scored["score"].to_pylist() == pytest.approx(score(small_checkpoint, table), abs=1e-6)
    assert not list(output.glob("_unfinished-*"))


def test_files_that_came_later_are_added(
    finished: Path, small_checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    before = {file: file.stat() for file in (tmp_path / "out").rglob("*.parquet")}
    write(tmp_path / "in" / "day=2" / "a.parquet", first=24)
    found = rerank_dataset(tmp_path / "in", tmp_path / "out", model=small_checkpoint)
    assert found.count() == 36
    for file, earlier in before.items():
        assert file.stat().st_ino == earlier.st_ino
    assert read(tmp_path / "out")["day"].to_pylist() == [1] * 24 + [2] * 12


def test_another_model_or_a_changed_file_is_refused(
    finished: Path, small_checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    source, output = tmp_path / "in", tmp_path / "out"
    with pytest.raises(ConfigurationError, match="begun with another model"):
        rerank_dataset(source, output, model=LocalScorer(small_checkpoint, max_length=64))
    with pytest.raises(ConfigurationError, match="begun with another document_column"):
        rerank_dataset(source, output, model=small_checkpoint, document_column="query")
    with pytest.raises(ConfigurationError, match="holds other Parquet files"):
        rerank_dataset(source / "day=1" / "a.parquet", source, model=small_checkpoint)
    write(source / "day=1" / "a.parquet", rows=3)
    with pytest.raises(ConfigurationError, match=r"a\.parquet has changed"):
        rerank_dataset(source, output, model=small_checkpoint)
    (source / "day=1" / "a.parquet").unlink()
    with pytest.raises(ConfigurationError, match=r"a\.parquet has changed since, or is gone"):
        rerank_dataset(source, output, model=small_checkpoint)


def test_a_model_that_fails_says_so(cluster: str, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", rows=2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        rerank_dataset(tmp_path / "in", tmp_path / "out", model=tmp_path / "empty")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"query_column": "question"}, "no column 'question'; there are: id, query"),
        ({"document_column": "id"}, "'id' must hold strings or lists of strings, not int64"),
        ({"query_column": "tags"}, "'tags' must hold strings, not list"),
        ({"score_column": "tags"}, "a column 'tags' already"),
    ],
)
def test_a_wrong_column_is_named_before_anything_begins(
    tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    write(tmp_path / "in" / "a.parquet")
    with pytest.raises(ConfigurationError, match=message):
        rerank_dataset(tmp_path / "in", tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_source_and_output_must_go_together(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet")
    with pytest.raises(ConfigurationError, match="output is missing"):
        rerank_dataset(tmp_path / "in")
    with pytest.raises(ConfigurationError, match="is in the source"):
        rerank_dataset(tmp_path / "in", tmp_path / "in" / "out")
    with pytest.raises(ConfigurationError, match="there is no Parquet file"):
        rerank_dataset(tmp_path / "elsewhere", tmp_path / "out")

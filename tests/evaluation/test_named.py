"""Collections by name, through the libraries that know them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import ir_datasets
import pyarrow
import pyarrow.parquet
import pytest

from jina_rerank import ConfigurationError, InputError
from jina_rerank.evaluation import load_collection
from jina_rerank.evaluation._extra import import_extra


def test_a_collection_of_ir_datasets(tmp_path: Path) -> None:
    (tmp_path / "docs.tsv").write_text("d1\tParis is in France\nd2\tRome is in Italy\n")
    (tmp_path / "queries.tsv").write_text("q1\twhere is Paris\nq2\tnot judged\n")
    (tmp_path / "qrels").write_text("q1 0 d1 2\nq1 0 d2 0\n")
    files = [str(tmp_path / name) for name in ("docs.tsv", "queries.tsv", "qrels")]
    ir_datasets.registry.register("jina-rerank-test", ir_datasets.create_dataset(*files))
    collection = load_collection("jina-rerank-test")
    assert collection.name == "jina-rerank-test"
    assert collection.documents == {"d1": "Paris is in France", "d2": "Rome is in Italy"}
    assert collection.queries == {"q1": "where is Paris"}
    assert collection.qrels == {"q1": {"d1": 2, "d2": 0}}


def test_names_that_nobody_knows() -> None:
    with pytest.raises(InputError, match="no/such/name: is no folder, and no name that ir_data"):
        load_collection("no/such/name")
    with pytest.raises(InputError, match="beir/scifact: has no qrels in ir_datasets"):
        load_collection("beir/scifact")


def test_too_little_space_on_the_disk_is_said(tmp_path: Path) -> None:
    for name in ("docs.tsv", "queries.tsv"):
        (tmp_path / name).write_text("1\ttea\n")
    larger = shutil.disk_usage(tmp_path).total + 1
    download = ir_datasets.util.Download([], cache_path=str(tmp_path / "qrels"), size_hint=larger)
    texts = ir_datasets.create_dataset(str(tmp_path / "docs.tsv"), str(tmp_path / "queries.tsv"))
    qrels = ir_datasets.formats.TrecQrels(download, {})
    dataset = ir_datasets.datasets.base.Dataset(texts, qrels)
    ir_datasets.registry.register("jina-rerank-large", dataset)
    with pytest.raises(InputError, match="large: cannot be downloaded: Insufficient disk space"):
        load_collection("jina-rerank-large")


def test_a_missing_library_is_named() -> None:
    with pytest.raises(ConfigurationError, match="needs no_such_module, which is not installed: p"):
        import_extra("no_such_module", "pip install x")


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, jina_rerank.evaluation, jina_rerank.evaluation.reports; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    heavy = {"numpy", "scipy", "torch", "ir_measures", "bm25s", "Stemmer", "rich", "tqdm", "typer"}
    assert not loaded & heavy


LOAD = """
import json, sys
from jina_rerank import InputError
from jina_rerank.evaluation import load_collection
try:
    found = load_collection(sys.argv[1])
    print(json.dumps([found.name, found.queries, found.documents, found.qrels]))
except InputError as error:
    print(json.dumps(str(error)))
"""


def cache(home: Path, repository: str, rows: list[dict[str, object]]) -> None:
    """A file in the hub's cache, as if it had been downloaded."""
    folder = home / "hub" / f"datasets--hazyresearch--{repository}"
    reference = folder / "refs" / "refs" / "convert" / "parquet"
    reference.parent.mkdir(parents=True)
    reference.write_text("c" * 40)
    file = folder / "snapshots" / ("c" * 40) / "default" / "test" / "0000.parquet"
    file.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)


def load(home: Path, name: str) -> object:
    done = subprocess.run(
        [sys.executable, "-c", LOAD, name],
        env={**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_set_of_loco(tmp_path: Path) -> None:
    """Its documents do not compete with those of other sets."""
    cache(
        tmp_path,
        "LoCoV1-Queries",
        [
            {"dataset": "a", "qid": "a1", "query": "which", "answer_pids": ["p1", "p2"]},
            {"dataset": "b", "qid": "b1", "query": "what", "answer_pids": ["p3"]},
        ],
    )
    cache(
        tmp_path,
        "LoCoV1-Documents",
        [
            {"dataset": name, "pid": pid, "passage": f"text of {pid}"}
            for name, pid in (("a", "p1"), ("a", "p2"), ("b", "p3"), ("a", "p4"))
        ],
    )
    documents = {pid: f"text of {pid}" for pid in ("p1", "p2", "p4")}
    assert load(tmp_path, "loco/a") == [
        "loco/a",
        {"a1": "which"},
        documents,
        {"a1": {"p1": 1, "p2": 1}},
    ]
    assert load(tmp_path, "loco/c") == "loco/c: is none of LoCoV1's: a, b"


def test_a_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    said = str(load(tmp_path, "loco/a"))
    assert said.startswith("hazyresearch/LoCoV1-Queries: cannot be downloaded: ")

"""Loading of collections by name: from ir_datasets, which has BEIR, and LoCoV1 from the hub."""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ._extra import import_extra
from .collection import Collection

_LOCO = "loco/"
_LOCO_DOCUMENTS = "hazyresearch/LoCoV1-Documents"
_LOCO_QUERIES = "hazyresearch/LoCoV1-Queries"
_LOCO_FILE = "default/test/0000.parquet"
_LOCO_REVISION = "refs/convert/parquet"


def load_named(name: str) -> Collection:
    """Load a collection by its name; see `load_collection`.

    Raises:
        InputError: There is no collection of that name, or it cannot be downloaded.
        ConfigurationError: A library is missing.
    """
    if name.startswith(_LOCO):
        return _load_loco(name.removeprefix(_LOCO))
    return _load_ir_dataset(name)


def _load_ir_dataset(name: str) -> Collection:
    library = import_extra("ir_datasets", "pip install ir_datasets")
    try:
        dataset = library.load(name)
    except KeyError:
        raise InputError(
            name, "is no folder, and no name that ir_datasets knows, such as beir/scifact/test"
        ) from None
    for part in ("queries", "docs", "qrels"):
        if not getattr(dataset, f"has_{part}")():
            raise InputError(name, f"has no {part} in ir_datasets; name a part such as {name}/test")
    try:
        qrels: dict[str, dict[str, int]] = {}
        for judgement in dataset.qrels_iter():
            qrels.setdefault(judgement.query_id, {})[judgement.doc_id] = int(judgement.relevance)
        queries = {
            query.query_id: query.default_text()
            for query in dataset.queries_iter()
            if query.query_id in qrels
        }
        documents = {
            document.doc_id: document.default_text().strip() for document in dataset.docs_iter()
        }
    # ValueError: ir_datasets' own check finds too little free disk space.
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(name, f"cannot be downloaded: {error}") from error
    return Collection(name, queries, documents, {query: qrels[query] for query in queries})


def _load_loco(name: str) -> Collection:
    """Load one of LoCoV1's sets, each of which has its own documents.

    Saad-Falcon and others, Benchmarking and Building Long-Context Retrieval Models with LoCo and
    M2-BERT (2024); read from the hub's Parquet conversion.
    """
    queries, answers = {}, {}
    names = set()
    for row in _rows(_LOCO_QUERIES):
        names.add(row["dataset"])
        if row["dataset"] == name:
            queries[row["qid"]] = row["query"]
            answers[row["qid"]] = dict.fromkeys(row["answer_pids"], 1)
    if not queries:
        raise InputError(f"{_LOCO}{name}", f"is none of LoCoV1's: {', '.join(sorted(names))}")
    documents = {
        row["pid"]: row["passage"] for row in _rows(_LOCO_DOCUMENTS) if row["dataset"] == name
    }
    return Collection(f"{_LOCO}{name}", queries, documents, answers)


def _rows(repository: str) -> list[dict[str, Any]]:
    parquet = import_extra("pyarrow.parquet", "pip install pyarrow")
    hub = import_extra("huggingface_hub")
    try:
        path = hub.hf_hub_download(
            repository, _LOCO_FILE, repo_type="dataset", revision=_LOCO_REVISION
        )
    except (OSError, ValueError) as error:
        raise InputError(repository, f"cannot be downloaded: {error}") from error
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows

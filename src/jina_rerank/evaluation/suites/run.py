"""Runs a suite on every set that is available."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from ...errors import ConfigurationError, InputError
from ...reranker import Reranker
from ..collection import Collection, read_beir
from ..evaluate import evaluate
from ..first_stage import bm25
from ..rag import evaluate_rag, read_rag_dataset
from ..systems import MixedSystem, System
from .published import RETRIEVER
from .sets import RAG, SUITES, Suite, load_set

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

Figures = Mapping[str, Mapping[str, float]]
"""Means over queries, by measure and system."""

RAG_TOP_N = 5
"""The number of passages that a reranker keeps in the suite that `run_rag_suite` measures."""


@dataclass(frozen=True)
class SuiteResult:
    """Result of a suite.

    Attributes:
        suite: The suite.
        figures: Figures by set.
        missing: Reasons why sets were not available, by set.
        setting: Short description of the setting.
    """

    suite: Suite
    figures: Mapping[str, Figures]
    missing: Mapping[str, str]
    setting: str

    @property
    def systems(self) -> list[str]:
        """The systems' names; the first is the first stage."""
        of_sets = [of_set[self.suite.measures[0]] for of_set in self.figures.values()]
        return list(dict.fromkeys(name for systems in of_sets for name in systems))

    def mean(self, measure: str, system: str) -> float:
        """Compute the mean over the measured sets, with equal weights."""
        return fmean(of_set[measure][system] for of_set in self.figures.values())


def run_suite(
    name: str,
    systems: Sequence[System | MixedSystem],
    *,
    data: Path | None = None,
    depth: int = 100,
    queries: int | None = None,
    state: Path | None = None,
    progress: bool = False,
) -> SuiteResult:
    """Rerank what BM25 finds on each of a suite's sets.

    Args:
        name: `"beir"` or `"loco"`; see `run_rag_suite` for the third.
        systems: The systems to compare.
        data: A folder with one folder in BEIR layout for each set; missing sets are loaded by name
            over the network.
        depth: Number of documents to rerank.
        queries: Number of queries of each set to take, evenly spread; None takes all.
        state: A folder for finished queries, from which a later call resumes.
        progress: True to show progress bars on standard error.

    Returns:
        Figures of the available sets, and the reasons why the others are missing.

    Raises:
        InputError: There is no such suite or folder, or no set is available.
        ConfigurationError: A library is missing.
        RerankError: As a system's `score`.
    """
    suite = SUITES.get(name)
    if suite is None or not suite.sets:
        names = ", ".join(repr(one.name) for one in SUITES.values() if one.sets)
        raise InputError("suite", f"must be one of {names}, not {name!r}")
    if data is not None and not data.is_dir():
        raise InputError(str(data), "is no folder")
    figures: dict[str, Figures] = {}
    missing: dict[str, str] = {}
    for item in suite.sets:
        try:
            collections = load_set(item, data)
        except (InputError, ConfigurationError) as error:
            missing[item.name] = str(error)
            continue
        measured = []
        for collection in collections:
            judged = collection if queries is None else collection.take(queries)
            kept = None if state is None else state / _folder(collection)
            measured.append(
                _measure(judged, systems, suite, depth=depth, state=kept, progress=progress)
            )
        figures[item.name] = _average(measured)
    if not figures:
        reasons = "; ".join(missing.values())
        raise InputError("suite", f"{name!r} has no set that can be had: {reasons}")
    taken = "all queries" if queries is None else f"{queries} queries of each set"
    return SuiteResult(suite, figures, missing, f"BM25's best {depth}, {taken}")


def run_rag_suite(
    data: Path,
    embeddings: Mapping[str, BaseEmbedding] | Sequence[str],
    rerankers: Mapping[str, Reranker],
    *,
    queries: int | None = None,
    candidates: int = 10,
    top_n: int = RAG_TOP_N,
) -> SuiteResult:
    """Retrieve with several embedding models, rerank, and measure with LlamaIndex.

    Args:
        data: A LlamaIndex dataset or a folder of such datasets, see `read_rag_dataset`; also a
            collection in BEIR layout.
        embeddings: As for `evaluate_rag`.
        rerankers: As for `evaluate_rag`.
        queries: Number of queries of each dataset to take, evenly spread; None takes all.
        candidates: Number of passages that the retriever finds for a reranker.
        top_n: Number of passages that a reranker keeps, or the retriever finds without one.

    Returns:
        Means over the embedding models, for each dataset.

    Raises:
        InputError: The folder holds no dataset, or a dataset that cannot be used.
        ConfigurationError: As `evaluate_rag`.
        RerankError: The reranker's errors.
    """
    figures: dict[str, Figures] = {}
    for collection in _datasets(data):
        judged = collection if queries is None else collection.take(queries)
        done = evaluate_rag(judged, embeddings, rerankers, candidates=candidates, top_n=top_n)
        figures[collection.name] = {
            measure: {name or RETRIEVER: done.average(name)[measure] for name in done.rerankers}
            for measure in RAG.measures
        }
    setting = (
        f"embedding models {', '.join(embeddings)}; {candidates} passages found, {top_n} kept, "
        f"{top_n} found without a reranker"
    )
    return SuiteResult(RAG, figures, {}, setting)


def _measure(
    collection: Collection,
    systems: Sequence[System | MixedSystem],
    suite: Suite,
    *,
    depth: int,
    state: Path | None,
    progress: bool,
) -> Figures:
    evaluation = evaluate(
        collection,
        bm25(collection, depth, ignore_identical_ids=suite.ignore_identical_ids),
        systems,
        depth=depth,
        measures=suite.measures,
        ignore_identical_ids=suite.ignore_identical_ids,
        state=state,
        progress=progress,
    )
    return {
        measure: {result.name: result.measured.means[measure] for result in evaluation.results}
        for measure in suite.measures
    }


def _average(parts: Sequence[Figures]) -> Figures:
    return {
        measure: {system: fmean(part[measure][system] for part in parts) for system in systems}
        for measure, systems in parts[0].items()
    }


def _folder(collection: Collection) -> str:
    return collection.name.replace("/", "-")


def _datasets(data: Path) -> list[Collection]:
    found = [folder for folder in (data, *sorted(data.glob("*"))) if _is_dataset(folder)]
    if not found:
        raise InputError(
            str(data), "holds neither rag_dataset.json nor corpus.jsonl, nor folders that do"
        )
    return [
        read_rag_dataset(folder) if (folder / "rag_dataset.json").is_file() else read_beir(folder)
        for folder in found
    ]


def _is_dataset(folder: Path) -> bool:
    names = ("rag_dataset.json", "corpus.jsonl", "corpus.jsonl.gz")
    return any((folder / name).is_file() for name in names)

"""The collections of each suite, and their sources."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ..collection import Collection, load_collection, read_beir
from ..rag import RAG_MEASURES
from .published import NDCG

_FORUMS = (
    "android",
    "english",
    "gaming",
    "gis",
    "mathematica",
    "physics",
    "programmers",
    "stats",
    "tex",
    "unix",
    "webmasters",
    "wordpress",
)


@dataclass(frozen=True, slots=True)
class SuiteSet:
    """One set of a suite.

    Attributes:
        name: Name of the set and of its folder.
        known_as: Folders below the data folder, each with its name for `load_collection`, or None.
            Usually one; several are measured one by one and their figures averaged.
        terms: What is required to get the set, if `load_collection` cannot load it.
    """

    name: str
    known_as: tuple[tuple[str, str | None], ...]
    terms: str | None = None


@dataclass(frozen=True, slots=True)
class Suite:
    """Several sets with the measures to compute on them.

    Attributes:
        name: Name of the suite, as in `--suite`.
        title: Title in reports.
        sets: The sets; empty if all sets of the data folder are used.
        measures: Names of the measures, whose means over the sets are the suite's figures.
        note: Differences to consider when the figures are compared with published ones.
        ignore_identical_ids: True if a document with the query's id is left out.
    """

    name: str
    title: str
    sets: tuple[SuiteSet, ...]
    measures: tuple[str, ...]
    note: str
    ignore_identical_ids: bool = False


def _one(name: str, known_as: str) -> SuiteSet:
    return SuiteSet(name, ((name, known_as),))


def _closed(name: str, terms: str) -> SuiteSet:
    return SuiteSet(name, ((name, None),), terms)


BEIR = Suite(
    name="beir",
    title="BEIR",
    sets=(
        _one("trec-covid", "beir/trec-covid"),
        _one("nfcorpus", "beir/nfcorpus/test"),
        _closed("bioasq", "registration with BioASQ"),
        _one("nq", "beir/nq"),
        _one("hotpotqa", "beir/hotpotqa/test"),
        _one("fiqa", "beir/fiqa/test"),
        _closed("signal1m", "registration with Signal AI"),
        _closed("trec-news", "an agreement with NIST"),
        _one("arguana", "beir/arguana"),
        # The version in BEIR's file; the name without v2 has the judgements of the year before.
        _one("webis-touche2020", "beir/webis-touche2020/v2"),
        SuiteSet(
            "cqadupstack",
            tuple((f"cqadupstack/{forum}", f"beir/cqadupstack/{forum}") for forum in _FORUMS),
        ),
        _one("quora", "beir/quora/test"),
        _one("dbpedia-entity", "beir/dbpedia-entity/test"),
        _one("scidocs", "beir/scidocs"),
        _one("fever", "beir/fever/test"),
        _one("climate-fever", "beir/climate-fever"),
        _one("scifact", "beir/scifact/test"),
    ),
    measures=(NDCG,),
    note=(
        "The published means are over 17 sets, of which the model card does not say which they "
        "are. BEIR has 18 beside MS MARCO; this suite takes all but Robust04. Nor does the card "
        "say what the first stage was; here it is BM25. A document with the query's own id is left "
        "out, as BEIR does."
    ),
    ignore_identical_ids=True,
)

LOCO = Suite(
    name="loco",
    title="LoCo",
    sets=tuple(
        _one(name, f"loco/{name}")
        for name in ("summ_screen_fd", "gov_report", "qmsum", "qasper_title", "qasper_abstract")
    ),
    measures=(NDCG,),
    note=(
        "The five sets of LoCoV0, as LoCoV1 has them. The model card does not say what the first "
        "stage was; here it is BM25."
    ),
)

RAG = Suite(
    name="llamaindex-rag",
    title="RAG with LlamaIndex",
    sets=(),
    measures=RAG_MEASURES,
    note=(
        "Means over datasets and embedding models. The published figures are over three embedding "
        "models and other data, so only the order of systems can be compared."
    ),
)

SUITES = {suite.name: suite for suite in (BEIR, LOCO, RAG)}
"""The suites, by name."""


def load_set(item: SuiteSet, data: Path | None) -> list[Collection]:
    """Load the collections of a set: from its folder if it exists, else by name.

    Args:
        item: The set.
        data: The folder that contains the sets' folders, each in BEIR layout.

    Raises:
        InputError: The set is not available; the message says why.
        ConfigurationError: A library is missing.
    """
    return [_load(item, folder, name, data) for folder, name in item.known_as]


def _load(item: SuiteSet, folder: str, name: str | None, data: Path | None) -> Collection:
    if data is not None and (data / folder).is_dir():
        return read_beir(data / folder, name=folder)
    if name is None:
        raise InputError(item.name, f"takes {item.terms}; then put it into {folder} of the data")
    return load_collection(name)

"""A collection in BEIR layout and its BM25 candidates, for the other scripts here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import bm25s
import ir_measures
import Stemmer

from jina_rerank import RankedDocument, Reranker

COFFEE = Path(__file__).parents[1] / "examples" / "data" / "coffee"


@dataclass(frozen=True)
class Candidates:
    """What a first stage found.

    Attributes:
        queries: By query id.
        documents: By document id, title and text joined.
        found: Document ids by query id, best first.
        qrels: Grades by query id and document id.
    """

    queries: dict[str, str]
    documents: dict[str, str]
    found: dict[str, list[str]]
    qrels: dict[str, dict[str, int]]

    def by_rank(self) -> dict[str, dict[str, float]]:
        """The first stage's own order, as scores."""
        return {
            query: {document: -float(place) for place, document in enumerate(found)}
            for query, found in self.found.items()
        }

    def rerank(self, reranker: Reranker) -> dict[str, dict[str, RankedDocument]]:
        """Every candidate with its score, by query id and document id."""
        rankings = reranker.rank_many(
            (self.queries[query], [self.documents[d] for d in found])
            for query, found in self.found.items()
        )
        return {
            query: {found[hit.index]: hit for hit in ranking}
            for (query, found), ranking in zip(self.found.items(), rankings, strict=True)
        }

    def ndcg(self, scores: dict[str, dict[str, float]]) -> float:
        """The mean nDCG@10 of scores by query id and document id, by ir-measures."""
        return float(ir_measures.calc_aggregate([NDCG], self.qrels, scores)[NDCG])


NDCG = ir_measures.parse_measure("nDCG@10")


def bm25_candidates(folder: Path, depth: int, every: int = 1) -> Candidates:
    """BM25's best `depth` for every `every`-th judged query, with Anserini's parameters."""
    documents = {
        d["_id"]: f"{d['title']} {d['text']}".strip() for d in _lines(folder / "corpus.jsonl")
    }
    qrels: dict[str, dict[str, int]] = {}
    rows = (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]
    for query, document, grade in (row.split("\t") for row in rows):
        qrels.setdefault(query, {})[document] = int(grade)
    queries = {q["_id"]: q["text"] for q in _lines(folder / "queries.jsonl") if q["_id"] in qrels}
    queries = dict(list(queries.items())[::every])

    stemmer = Stemmer.Stemmer("english")

    def tokenize(texts: list[str]) -> list[list[str]]:
        tokens: list[list[str]] = bm25s.tokenize(
            texts, stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False
        )
        return tokens

    index = bm25s.BM25(k1=0.9, b=0.4, method="lucene")
    index.index(tokenize(list(documents.values())), show_progress=False)
    depth = min(depth, len(documents))
    hits, _ = index.retrieve(
        tokenize(list(queries.values())), corpus=list(documents), k=depth, show_progress=False
    )
    found = {query: [str(d) for d in row] for query, row in zip(queries, hits, strict=True)}
    return Candidates(queries, documents, found, {q: qrels[q] for q in queries})


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

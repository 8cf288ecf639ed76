"""Demonstration, `make demo`: a retriever's results before and after reranking, side by side."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import bm25s
import Stemmer
from quickstart import DOCUMENTS, QUERY
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jina_rerank import Ranking, Reranker

COFFEE = Path(__file__).parent / "data" / "coffee"
CANDIDATES = 50
SHOWN = 5
QUESTIONS = ["q12", "q89"]

terminal = Console()
console = Console(width=min(terminal.width, 120) if terminal.is_terminal else 110, highlight=False)


@dataclass(frozen=True)
class Collection:
    """Real questions of coffee.stackexchange.com and all its answers.

    Attributes:
        documents: The answers, by id.
        questions: By id.
        relevant: The ids of a question's own answers, by question id.
    """

    documents: dict[str, str]
    questions: dict[str, str]
    relevant: dict[str, set[str]]

    @classmethod
    def load(cls) -> Collection:
        """Read the collection that lies beside this file."""
        relevant: dict[str, set[str]] = {}
        for row in (COFFEE / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]:
            question, document, _ = row.split("\t")
            relevant.setdefault(question, set()).add(document)
        return cls(
            documents={line["_id"]: line["text"] for line in _lines("corpus.jsonl")},
            questions={line["_id"]: line["text"] for line in _lines("queries.jsonl")},
            relevant=relevant,
        )


class BM25:
    """A lexical first stage over a collection, by bm25s."""

    def __init__(self, documents: dict[str, str]) -> None:
        self._ids = list(documents)
        self._stemmer = Stemmer.Stemmer("english")
        self._index = bm25s.BM25(k1=0.9, b=0.4, method="lucene")
        self._index.index(self._tokenize(list(documents.values())), show_progress=False)

    def search(self, query: str, best: int) -> list[str]:
        """The ids of the best documents, best first."""
        hits, _ = self._index.retrieve(
            self._tokenize([query]), corpus=self._ids, k=best, show_progress=False
        )
        return [str(document) for document in hits[0]]

    def _tokenize(self, texts: list[str]) -> list[list[str]]:
        tokens: list[list[str]] = bm25s.tokenize(
            texts, stopwords="en", stemmer=self._stemmer, return_ids=False, show_progress=False
        )
        return tokens


def main() -> list[Ranking]:
    """Show the model card's example and two real searches; returns their rankings."""
    started = time.perf_counter()
    reranker = Reranker()
    reranker.warm_up()
    console.print(
        f"[bold]{reranker.model}[/], the model that ships with the package, loaded in "
        f"{time.perf_counter() - started:.1f} s.\nIt is our own and small; Jina's are one name "
        'away: Reranker("jinaai/jina-reranker-v1-turbo-en")\n'
    )
    rankings = [show_titles(reranker)]
    collection = Collection.load()
    first_stage = BM25(collection.documents)
    rankings += [show_search(reranker, collection, first_stage, q) for q in QUESTIONS]
    console.print(
        "[green]\u2713[/] marks an answer to this question; the others answer other questions. The "
        "model learned\nno text of this site, only the scale of its scores; docs/models.md has "
        "figures.\n"
    )
    reranker.close()
    return rankings


def show_titles(reranker: Reranker) -> Ranking:
    """The example of Jina's model cards: ten titles as they came, and reranked."""
    ranking = reranker.rank(QUERY, DOCUMENTS)
    table = _table(QUERY, "as given", "reranked")
    for place, hit in enumerate(ranking):
        table.add_row(str(place + 1), DOCUMENTS[place], f"{hit.score:.4f}", hit.text)
    console.print(table)
    return ranking


def show_search(
    reranker: Reranker, collection: Collection, first_stage: BM25, question: str
) -> Ranking:
    """One search: BM25's best beside the best of its fifty candidates after reranking."""
    query = collection.questions[question]
    found = first_stage.search(query, CANDIDATES)
    started = time.perf_counter()
    ranking = reranker.rank(query, [collection.documents[document] for document in found])
    seconds = time.perf_counter() - started

    relevant = collection.relevant[question]
    table = _table(query, f"BM25's best {SHOWN} of {CANDIDATES}", "reranked")
    for place, hit in enumerate(ranking[:SHOWN]):
        before = _shown(collection, found[place], relevant)
        after = _shown(collection, found[hit.index], relevant, f"was {hit.index + 1}")
        table.add_row(str(place + 1), before, f"{hit.score:.4f}", after)
    table.caption = (
        f"{len(found)} pairs, {ranking.usage.tokens:,} tokens, {seconds:.2f} s; "
        f"first own answer: place {_first(found, relevant)} before, "
        f"{_first([found[hit.index] for hit in ranking], relevant)} after"
    )
    console.print(table)
    return ranking


def _table(title: str, before: str, after: str) -> Table:
    table = Table(
        title=escape(title),
        title_style="bold italic",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("", justify="right", style="dim")
    table.add_column(before, ratio=1)
    table.add_column("score", justify="right", style="green")
    table.add_column(after, ratio=1)
    return table


def _shown(collection: Collection, document: str, relevant: set[str], note: str = "") -> str:
    mark = "[green]\u2713[/] " if document in relevant else "  "
    text = " ".join(collection.documents[document].split())[:90]
    return f"{mark}{escape(text)}\u2026" + (f" [dim]({note})[/]" if note else "")


def _first(found: list[str], relevant: set[str]) -> str:
    places = [place for place, document in enumerate(found, 1) if document in relevant]
    return str(places[0]) if places else "none"


def _lines(name: str) -> list[dict[str, str]]:
    text = (COFFEE / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


if __name__ == "__main__":
    main()

"""A small judged collection, in memory and as files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from jina_rerank.evaluation import Collection

DOCUMENTS = {
    "berlin": "Berlin is the capital of Germany",
    "paris": "Paris is the capital of France",
    "lyon": "Lyon is a city in France, and no capital",
    "bread": "Bread is baked from flour",
    "oven": "An oven bakes bread and cake",
    "sea": "The sea is salty",
}
QUERIES = {
    "q1": "capital of France",
    "q2": "how is bread baked",
    "q3": "why is the sea salty",
}
QRELS = {
    "q1": {"paris": 2, "lyon": 1, "berlin": 0},
    "q2": {"bread": 1, "oven": 1},
    "q3": {"sea": 1},
}
COLLECTION = Collection("places", QUERIES, DOCUMENTS, QRELS)
FOUND = {
    "q1": {"berlin": 9.0, "paris": 8.0, "lyon": 7.0},
    "q2": {"oven": 4.0, "sea": 3.0, "bread": 2.0},
    "q3": {"bread": 5.0, "sea": 1.0},
}
"""A first stage with the best document first for q2 only."""


def write_beir(folder: Path, collection: Collection = COLLECTION, *, gz: bool = False) -> Path:
    """The collection in BEIR layout, with one more query that nobody judged."""
    corpus = [
        {"_id": name, "title": text.split()[0], "text": text.partition(" ")[2]}
        for name, text in collection.documents.items()
    ]
    queries = [{"_id": name, "text": text} for name, text in collection.queries.items()]
    queries.append({"_id": "unjudged", "text": "who asked"})
    rows = ["query-id\tcorpus-id\tscore"]
    for query, grades in collection.qrels.items():
        rows += [f"{query}\t{document}\t{grade}" for document, grade in grades.items()]
    for name, lines in {
        "corpus.jsonl": map(json.dumps, corpus),
        "queries.jsonl": map(json.dumps, queries),
        "qrels/test.tsv": rows,
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{line}\n" for line in lines).encode()
        if gz:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(text))
        else:
            path.write_bytes(text)
    return folder

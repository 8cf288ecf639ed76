"""Collections: documents, queries, and which documents answer which query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from .._inputs import check_positive, check_query
from .._lines import find_file, read_objects, take_id, take_text, typed_text
from ..errors import InputError
from .qrels import Qrels, read_qrels


@dataclass(frozen=True)
class Collection:
    """Documents, judged queries and their judgements.

    Attributes:
        name: The name in reports.
        queries: Texts by query id; judged queries only.
        documents: Texts by document id, title and text joined by a space.
        qrels: Grades by query id and document id, for every query.
    """

    name: str
    queries: Mapping[str, str]
    documents: Mapping[str, str]
    qrels: Qrels

    @property
    def judgements(self) -> int:
        """The number of judged pairs of query and document."""
        return sum(map(len, self.qrels.values()))

    @property
    def missing_documents(self) -> list[str]:
        """The judged documents that `documents` lacks, without repetitions."""
        judged = dict.fromkeys(document for grades in self.qrels.values() for document in grades)
        return [document for document in judged if document not in self.documents]

    def take(self, count: int) -> Collection:
        """Return the collection with fewer queries, evenly spread, and all documents.

        Args:
            count: Number of queries, at least 1; if there are not so many, all are taken.

        Raises:
            InputError: `count` is below 1.
        """
        count = check_positive(count, "queries")
        identifiers = list(self.queries)
        if count < len(identifiers):
            identifiers = [identifiers[i * len(identifiers) // count] for i in range(count)]
        return replace(
            self,
            queries={query: self.queries[query] for query in identifiers},
            qrels={query: self.qrels[query] for query in identifiers},
        )


def load_collection(name_or_folder: str, *, split: str = "test") -> Collection:
    """Read a collection from a folder, or load it by name over the network.

    Args:
        name_or_folder: A folder in BEIR layout; or `loco/NAME` for a set of LoCoV1, such as
            `loco/qasper_abstract`; or an identifier of ir_datasets, such as `beir/scifact/test`.
        split: Split of a folder's judgements, as for `read_beir`; not used for names, which
            include it.

    Raises:
        InputError: There is no such folder or name, or its content cannot be used.
        ConfigurationError: A library is missing; the message names the command.
    """
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return read_beir(folder, split=split)
    # No name begins so. A mistyped folder must not lead to an error about a missing library.
    if name_or_folder.startswith(("/", ".", "~")):
        raise InputError(name_or_folder, "there is no such folder")
    from .named import load_named

    return load_named(name_or_folder)


def read_beir(folder: Path, *, split: str = "test", name: str | None = None) -> Collection:
    """Read a collection in BEIR layout.

    The folder holds `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`) and
    `qrels/SPLIT.tsv`, see `read_qrels`; each may be gzipped, with `.gz` behind its name. Judged
    documents that the corpus lacks are `missing_documents`.

    Args:
        folder: The folder.
        split: Split of the judgements.
        name: The name in reports; the folder's name by default.

    Raises:
        InputError: A file is missing or a line cannot be used; the message names file and line.
    """
    qrels, judged_at = read_qrels(_find_qrels(folder, split))
    texts = _read_texts(_existing(folder / "queries.jsonl"))
    for query, where in judged_at.items():
        if query not in texts:
            raise InputError(where, f"judges the query {query!r}, which queries.jsonl lacks")
        check_query(texts[query][0], texts[query][1])
    queries = {query: text for query, (text, _) in texts.items() if query in qrels}
    documents = {
        identifier: text
        for identifier, (text, _) in _read_texts(_existing(folder / "corpus.jsonl")).items()
    }
    if not any(document in documents for grades in qrels.values() for document in grades):
        raise InputError(
            next(iter(judged_at.values())), "judges a document that corpus.jsonl lacks, as all do"
        )
    return Collection(
        name=name or typed_text(folder.resolve().name),
        queries=queries,
        documents=documents,
        qrels={query: qrels[query] for query in queries},
    )


def _existing(path: Path) -> Path:
    found = find_file(path)
    if found is None:
        raise InputError(
            str(path),
            "is missing; a collection in BEIR layout has corpus.jsonl, queries.jsonl and "
            "qrels/test.tsv",
        )
    return found


def _find_qrels(folder: Path, split: str) -> Path:
    found = find_file(folder / "qrels" / f"{split}.tsv")
    if found is not None:
        return found
    splits = {path.name.partition(".tsv")[0] for path in folder.glob("qrels/*.tsv*")}
    there = f"there are {', '.join(sorted(splits))}" if splits else "there are none"
    raise InputError(str(folder / "qrels" / f"{split}.tsv"), f"is missing; of splits {there}")


def _read_texts(path: Path) -> dict[str, tuple[str, str]]:
    """Read texts with their places in the file, by identifier."""
    texts: dict[str, tuple[str, str]] = {}
    for where, value in read_objects(path):
        identifier = take_id(value, "_id", where)
        if identifier in texts:
            raise InputError(where, f"has the _id {identifier!r} of {texts[identifier][1]} again")
        text = take_text(value, "text", where)
        # A missing title is often null.
        title = "" if value.get("title") is None else take_text(value, "title", where)
        texts[identifier] = f"{title} {text}".strip(), where
    if not texts:
        raise InputError(str(path), "is empty")
    return texts

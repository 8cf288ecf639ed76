"""Retrieval for RAG, measured by LlamaIndex: hit rate and MRR, with and without a reranker.

The method is that of LlamaIndex's "Boosting RAG: Picking the Best Embedding & Reranker models"
(2023), which Jina's announcements follow. An embedding model finds ten passages in a vector store.
The reranker keeps five of them; without it the first five are kept. The hit rate is the share of
queries with a relevant passage among the five, and MRR is the mean of the reciprocal of its rank.
Both are averaged over several embedding models.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from .._inputs import check_positive
from .._installed import install_command
from .._lines import read_text, typed_text
from .._numbers import as_whole, shown
from ..errors import ConfigurationError, InputError
from ..reranker import Reranker
from ._extra import import_extra
from .collection import Collection

if TYPE_CHECKING:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.postprocessor.types import BaseNodePostprocessor

HIT_RATE, MRR = "hit_rate", "mrr"
RAG_MEASURES = (HIT_RATE, MRR)
"""LlamaIndex's names of the measures. The cutoff of MRR is `top_n`, the number of passages."""

EXTRA = "eval-rag"
TEXTS = (".txt", ".md", ".rst")
_CHUNK_TOKENS = 512


@dataclass(frozen=True)
class RagResult:
    """Result of one embedding model with one reranker, or without a reranker.

    Attributes:
        embedding: Name of the embedding model.
        reranker: Name of the reranker; None if the retriever's order was kept.
        per_query: Values by measure and query id.
    """

    embedding: str
    reranker: str | None
    per_query: Mapping[str, Mapping[str, float]]

    @property
    def means(self) -> dict[str, float]:
        """The mean over all queries, by measure."""
        return {name: fmean(values.values()) for name, values in self.per_query.items()}


@dataclass(frozen=True)
class RagEvaluation:
    """Results of every embedding model with every reranker, on one collection.

    Attributes:
        collection: The collection.
        candidates: Number of passages that the reranker was given.
        top_n: Number of passages that were kept, with or without a reranker.
        results: One result for each pair, those without a reranker first.
    """

    collection: Collection
    candidates: int
    top_n: int
    results: tuple[RagResult, ...]

    @property
    def rerankers(self) -> tuple[str | None, ...]:
        """The distinct names of rerankers; None is the retriever alone."""
        return tuple(dict.fromkeys(result.reranker for result in self.results))

    def average(self, reranker: str | None) -> dict[str, float]:
        """Compute the mean over all embedding models, by measure.

        Args:
            reranker: Name of the reranker, or None for the retriever alone.

        Raises:
            InputError: The reranker was not evaluated.
        """
        found = [result.means for result in self.results if result.reranker == reranker]
        if not found:
            raise InputError("reranker", f"{reranker!r} was not evaluated, but {self.rerankers}")
        return {name: fmean(means[name] for means in found) for name in RAG_MEASURES}


def read_rag_dataset(folder: Path, *, name: str | None = None) -> Collection:
    """Read a dataset in the layout of LlamaHub: `rag_dataset.json` and `source_files`.

    The passages are the distinct `reference_contexts` of the examples. In LlamaHub's datasets they
    are the chunks of the source files, since questions were made for each chunk. If they do not
    cover all of the text, the text between them is added in chunks of 512 tokens, to be searched
    as well. This requires that every context is found in the source files word by word; otherwise
    an added chunk might answer a question and be judged wrong. Source files that are not text are
    not read.

    Args:
        folder: The folder.
        name: The name in reports; the folder's name by default.

    Returns:
        Queries `q1`, `q2`... in the order of the examples; passages `p1`..., and `s1`... for the
        text between them; grade 1 for the contexts of a query.

    Raises:
        InputError: The file is missing, an example cannot be used, or a file is not UTF-8; the
            message names the example or the line.
        ConfigurationError: There is text to be split, and LlamaIndex is missing.
    """
    path = folder / "rag_dataset.json"
    text = read_text(path)
    try:
        examples = json.loads(text)["examples"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            str(path), "is not a LlamaIndex rag_dataset: no list of examples"
        ) from error
    if not isinstance(examples, list) or not examples:
        raise InputError(str(path), "has no examples")
    passages: dict[str, str] = {}
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    for number, example in enumerate(examples, 1):
        query, contexts = _read_example(f"{path}: examples[{number - 1}]", example)
        queries[f"q{number}"] = query
        identifiers = [passages.setdefault(text, f"p{len(passages) + 1}") for text in contexts]
        qrels[f"q{number}"] = dict.fromkeys(identifiers, 1)
    documents = {identifier: text for text, identifier in passages.items()}
    between = _between(_source_texts(folder / "source_files"), list(passages))
    documents |= {f"s{number}": text for number, text in enumerate(between, 1)}
    return Collection(name or typed_text(folder.resolve().name), queries, documents, qrels)


def _read_example(where: str, example: Any) -> tuple[str, list[str]]:  # noqa: ANN401 - JSON
    if not isinstance(example, dict):
        raise InputError(where, f"must be a JSON object, not {type(example).__name__}")
    query, contexts = example.get("query"), example.get("reference_contexts")
    if not isinstance(query, str) or not query.strip():
        raise InputError(where, "must have a question under 'query'")
    if (
        not isinstance(contexts, list)
        or not contexts
        or not all(isinstance(text, str) and text.strip() for text in contexts)
    ):
        raise InputError(where, "must have at least one text under 'reference_contexts'")
    return query, contexts


def _source_texts(folder: Path) -> list[str]:
    found = folder.rglob("*")
    files = sorted(path for path in found if path.suffix.lower() in TEXTS and path.is_file())
    return [read_text(path) for path in files]


def _between(texts: list[str], contexts: Sequence[str]) -> list[str]:
    """Split the texts without the contexts into chunks; no chunks if a context is not found."""
    covered: list[list[tuple[int, int]]] = [[] for _ in texts]
    for context in contexts:
        words = re.compile(r"\s+".join(map(re.escape, context.split())))
        spans = [
            (place, found.span())
            for place, text in enumerate(texts)
            for found in words.finditer(text)
        ]
        if not spans:
            return []
        for place, span in spans:
            covered[place].append(span)
    left = [
        gap
        for text, spans in zip(texts, covered, strict=True)
        for gap in _gaps(text, sorted(spans))
    ]
    if not left:
        return []
    splitter = import_extra(
        "llama_index.core.node_parser", install_command(EXTRA)
    ).SentenceSplitter(chunk_size=_CHUNK_TOKENS, chunk_overlap=0)
    return [chunk for gap in left for chunk in splitter.split_text(gap)]


def _gaps(text: str, spans: Iterable[tuple[int, int]]) -> list[str]:
    gaps = []
    end = 0
    for start, stop in [*spans, (len(text), len(text))]:
        gaps.append(text[end:start].strip())
        end = max(end, stop)
    return [gap for gap in gaps if gap]


def evaluate_rag(
    collection: Collection,
    embeddings: Mapping[str, BaseEmbedding] | Sequence[str],
    rerankers: Mapping[str, Reranker],
    *,
    candidates: int = 10,
    top_n: int = 5,
) -> RagEvaluation:
    """Measure retrieval from a vector store with LlamaIndex's evaluator.

    The store is Qdrant in this process, which compares every vector, so that the figures do not
    depend on an approximate index. A query without a relevant passage counts as 0.

    Args:
        collection: The collection. Its documents are the passages; grades of at least 1 are
            relevant.
        embeddings: Embedding models by their names in reports; or folders and hub ids for
            sentence-transformers.
        rerankers: Rerankers by their names.
        candidates: Number of passages that the retriever finds for a reranker.
        top_n: Number of passages that a reranker keeps, or the retriever finds without one.

    Returns:
        Results of the retriever alone and with each reranker, for each embedding model.

    Raises:
        InputError: `candidates` or `top_n` is out of range.
        ConfigurationError: There is no embedding model, or a library is missing; the message
            names the command.
        ModelLoadError: A model cannot be loaded.
        RerankError: The reranker's errors.
    """
    return asyncio.run(
        aevaluate_rag(collection, embeddings, rerankers, candidates=candidates, top_n=top_n)
    )


async def aevaluate_rag(
    collection: Collection,
    embeddings: Mapping[str, BaseEmbedding] | Sequence[str],
    rerankers: Mapping[str, Reranker],
    *,
    candidates: int = 10,
    top_n: int = 5,
) -> RagEvaluation:
    """Run `evaluate_rag` where an event loop is already running, as in a notebook.

    It blocks the event loop, since LlamaIndex's evaluator calls rerankers without awaiting them.
    """
    candidates = check_positive(candidates, "candidates")
    kept = as_whole(top_n)
    if kept is None or not 1 <= kept <= candidates:
        problem = f"must be between 1 and candidates={candidates}"
        raise InputError("top_n", f"{problem}, not {shown(top_n)}")
    top_n = kept
    if not embeddings:
        raise ConfigurationError("embeddings is empty; name at least one embedding model")
    plugin = import_extra("llama_index.postprocessor.jina_rerank", install_command(EXTRA))
    contestants: dict[str | None, BaseNodePostprocessor | None] = {None: None}
    for name, reranker in rerankers.items():
        reranker.warm_up()
        contestants[name] = plugin.JinaRerank(reranker=reranker, top_n=top_n)
    results = []
    for name in embeddings:
        embedding = embeddings[name] if isinstance(embeddings, Mapping) else load_embedding(name)
        async with _VectorStore(collection.documents, embedding) as store:
            for contestant, postprocessor in contestants.items():
                retriever = store.retriever(top_n if postprocessor is None else candidates)
                measured = await _measure(collection, store.ids, retriever, postprocessor)
                results.append(RagResult(name, contestant, measured))
    results.sort(key=lambda result: list(contestants).index(result.reranker))
    return RagEvaluation(collection, candidates, top_n, tuple(results))


def load_embedding(model: str) -> BaseEmbedding:
    """Load an embedding model of sentence-transformers for LlamaIndex.

    Args:
        model: A folder or a hub id.

    Raises:
        ConfigurationError: A library is missing; the message names the command.
        ModelLoadError: The model cannot be loaded.
    """
    import_extra("llama_index.core", install_command(EXTRA))
    from ._rag_embedding import SentenceTransformerEmbedding

    return SentenceTransformerEmbedding.load(model)


async def _measure(
    collection: Collection,
    ids: Mapping[str, str],
    retriever: BaseRetriever,
    postprocessor: BaseNodePostprocessor | None,
) -> dict[str, dict[str, float]]:
    from llama_index.core.evaluation import RetrieverEvaluator

    evaluator = RetrieverEvaluator.from_metric_names(
        list(RAG_MEASURES),
        retriever=retriever,
        node_postprocessors=[] if postprocessor is None else [postprocessor],
    )
    measured: dict[str, dict[str, float]] = {
        name: dict.fromkeys(collection.queries, 0.0) for name in RAG_MEASURES
    }
    for query, text in collection.queries.items():
        # Judged documents may be missing from the collection.
        grades = collection.qrels[query].items()
        expected = [ids[document] for document, grade in grades if grade > 0 and document in ids]
        if expected:
            result = await evaluator.aevaluate(query=text, expected_ids=expected)
            for name, value in result.metric_vals_dict.items():
                measured[name][query] = value
    return measured


class _VectorStore:
    """The passages in Qdrant, in this process and in memory, for the time of a `with` block.

    Args:
        documents: Texts by document id, at least one.
        embedding: Embedding model of documents and queries.

    Attributes:
        ids: Qdrant's identifiers, which must be UUIDs, by document id.
    """

    def __init__(self, documents: Mapping[str, str], embedding: BaseEmbedding) -> None:
        self._documents = documents
        self._embedding = embedding
        self.ids = {name: str(uuid.uuid5(uuid.NAMESPACE_OID, name)) for name in documents}

    async def __aenter__(self) -> _VectorStore:
        from llama_index.core import VectorStoreIndex
        from llama_index.core.schema import TextNode

        qdrant = import_extra("qdrant_client", install_command(EXTRA))
        store = import_extra("llama_index.vector_stores.qdrant", install_command(EXTRA))
        self._client = qdrant.AsyncQdrantClient(":memory:")
        vectors = store.QdrantVectorStore(
            "passages",
            aclient=self._client,
            index_doc_id=False,  # indexes of fields are for servers; in memory Qdrant warns of them
        )
        embedded = self._embedding.get_text_embedding_batch(list(self._documents.values()))
        await vectors.async_add(
            [
                TextNode(id_=self.ids[name], text=text, embedding=vector)
                for (name, text), vector in zip(self._documents.items(), embedded, strict=True)
            ]
        )
        self._index = VectorStoreIndex.from_vector_store(vectors, embed_model=self._embedding)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    def retriever(self, top_k: int) -> BaseRetriever:
        """Return a retriever of the `top_k` passages with the highest cosine."""
        return self._index.as_retriever(similarity_top_k=top_k)

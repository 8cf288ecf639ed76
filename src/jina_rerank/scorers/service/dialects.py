"""Dialects: request and answer formats of services. One is chosen by name and never guessed."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args

from ...errors import ConfigurationError, InputError
from ..base import ScoreRequest, refuse_instruction
from .parts import PartScores
from .secrets import KEY_VARIABLES
from .wire import Reply, without_surrogates

DialectName = Literal["jina", "cohere", "voyage", "tei", "sagemaker"]
"""`"jina"`: Jina's hosted API and its self-hosted server, vLLM, infinity, Xinference, llama.cpp,
LocalAI, and this project's own server. `"cohere"`: version 2 of Cohere's API. `"voyage"`: Voyage's
API. `"tei"`: Hugging Face's text-embeddings-inference. `"sagemaker"`: Jina's containers on
SageMaker."""


_LONGEST_REASON = 300
"""Most characters of a service's message that are quoted."""


class ContractError(Exception):
    """An answer that breaks the contract; the message says how."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of each request beside the query and the documents.

    Attributes:
        model: The service's name for the model, or None.
        max_doc_length: Longest document in tokens, where the service has this option.
        truncation: Whether longer documents are cut, where the service has this option.
        instruction: What makes a document relevant, where the service has this option.
        extra: Further fields of the body, as they are.
    """

    model: str | None = None
    max_doc_length: int | None = None
    truncation: bool | None = None
    instruction: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


class Dialect(ABC):
    """Requests and answers of one kind of service.

    Attributes:
        name: The dialect's name.
        base_url: The service's default address, or None.
        path: Path of the endpoint, in segments.
        key_variables: Environment variables that may hold the key if none is given.
        default_model: The model to ask for, or None.
        needs_model: Whether a request must name one.
        max_documents: The most documents in one request.
        unsupported: The names of the `Parameters` that the service does not have.
    """

    name: ClassVar[DialectName]
    base_url: ClassVar[str | None] = None
    path: ClassVar[tuple[str, ...]]
    key_variables: ClassVar[tuple[str, ...]] = ()
    default_model: ClassVar[str | None] = None
    needs_model: ClassVar[bool] = False
    max_documents: ClassVar[int]
    unsupported: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def body(self, query: str, documents: Sequence[str], parameters: Parameters) -> dict[str, Any]:
        """Build the request's body, ready to be written as JSON."""

    @abstractmethod
    def read(self, answer: object, count: int) -> PartScores:
        """Read the scores in an answer to `count` documents.

        Raises:
            ContractError: The answer breaks the contract.
        """

    def parameters_for(self, request: ScoreRequest, own: Parameters) -> Parameters:
        """Merge the options of a request with the scorer's parameters.

        Args:
            request: The request, whose options go first.
            own: The scorer's parameters.

        Raises:
            InputError: The service does not have one of the options.
        """
        if request.long_documents is not None:
            if request.long_documents == "chunk" or "truncation" in self.unsupported:
                raise self._lacks(request, "long_documents", repr(request.long_documents))
            own = replace(own, truncation=request.long_documents == "truncate")
        if request.max_document_tokens is not None:
            if "max_doc_length" in self.unsupported:
                raise self._lacks(request, "max_document_tokens", "such an option")
            own = replace(own, max_doc_length=request.max_document_tokens)
        if request.instruction is not None:
            if "instruction" in self.unsupported:
                refuse_instruction(request, f"a {self.name!r} service")
            own = replace(own, instruction=request.instruction)
        return own

    def _lacks(self, request: ScoreRequest, option: str, what: str) -> InputError:
        problem = f"the dialect {self.name!r} does not have {what}; leave it out"
        return InputError(f"{request.name}{option}", problem)

    def is_too_large(self, reply: Reply) -> bool:
        """Tell whether a reply means that fewer documents at a time might be accepted."""
        # 413: too many bytes. 504: it took too long, "try with smaller inputs".
        return reply.status in {413, 504}


class Jina(Dialect):
    """`POST /v1/rerank` (hosted OpenAPI, version 2026.04.02).

    `return_documents` is sent as false: its default was changed and is documented both ways, and
    the texts are known here. `top_n` is not sent: without it the service returns all scores.
    """

    name = "jina"
    base_url = "https://api.jina.ai"
    path = ("v1", "rerank")
    key_variables = KEY_VARIABLES
    default_model = "jina-reranker-v3.5"
    needs_model = True
    max_documents = 512  # the smallest figure that Jina has published for one request

    def body(self, query: str, documents: Sequence[str], parameters: Parameters) -> dict[str, Any]:
        """Build the request; see `Dialect.body`."""
        optional = {
            "truncation": parameters.truncation,
            "max_doc_length": parameters.max_doc_length,
            "instruction": parameters.instruction,
        }
        return {
            "model": parameters.model,
            "query": query,
            "documents": documents,
            "return_documents": False,
            **_present(optional),
            **parameters.extra,
        }

    def read(self, answer: object, count: int) -> PartScores:
        """Read the scores; see `Dialect.read`."""
        answer = _mapping(answer, "the answer")
        scores = _scores(answer.get("results"), "relevance_score", count)
        # Only `jina-rerank serve` has it.
        said = answer.get("degraded")
        degraded = None
        if isinstance(said, str):
            degraded = f"the service says: {without_surrogates(said[:_LONGEST_REASON])}"
        return PartScores(scores, _count(_part(answer, "usage"), "total_tokens"), degraded)


class Cohere(Dialect):
    """`POST /v2/rerank` (Cohere's SDK 7.3)."""

    name = "cohere"
    base_url = "https://api.cohere.com"
    path = ("v2", "rerank")
    needs_model = True
    max_documents = 1000  # "we recommend against sending more than 1,000 in a single request"
    unsupported = frozenset({"truncation", "instruction"})

    def body(self, query: str, documents: Sequence[str], parameters: Parameters) -> dict[str, Any]:
        """Build the request; see `Dialect.body`."""
        return {
            "model": parameters.model,
            "query": query,
            "documents": documents,
            **_present({"max_tokens_per_doc": parameters.max_doc_length}),
            **parameters.extra,
        }

    def read(self, answer: object, count: int) -> PartScores:
        """Read the scores; see `Dialect.read`."""
        answer = _mapping(answer, "the answer")
        scores = _scores(answer.get("results"), "relevance_score", count)
        return PartScores(scores, _count(_part(_part(answer, "meta"), "tokens"), "input_tokens"))


class Voyage(Dialect):
    """`POST /v1/rerank` of Voyage AI.

    `top_k` is not sent: without it the service returns all scores.
    """

    name = "voyage"
    base_url = "https://api.voyageai.com"
    path = ("v1", "rerank")
    key_variables = ("VOYAGE_API_KEY",)
    needs_model = True
    max_documents = 1000  # its own limit
    unsupported = frozenset({"max_doc_length", "instruction"})

    def body(self, query: str, documents: Sequence[str], parameters: Parameters) -> dict[str, Any]:
        """Build the request; see `Dialect.body`."""
        return {
            "model": parameters.model,
            "query": query,
            "documents": documents,
            "return_documents": False,
            **_present({"truncation": parameters.truncation}),
            **parameters.extra,
        }

    def read(self, answer: object, count: int) -> PartScores:
        """Read the scores; see `Dialect.read`."""
        answer = _mapping(answer, "the answer")
        scores = _scores(answer.get("data"), "relevance_score", count)
        return PartScores(scores, _count(_part(answer, "usage"), "total_tokens"))


class Tei(Dialect):
    """`POST /rerank` (text-embeddings-inference 1.8). The answer is a bare list."""

    name = "tei"
    path = ("rerank",)
    max_documents = 32  # its --max-client-batch-size, unless set
    unsupported = frozenset({"max_doc_length", "instruction"})

    def body(self, query: str, documents: Sequence[str], parameters: Parameters) -> dict[str, Any]:
        """Build the request; see `Dialect.body`."""
        return {
            "query": query,
            "texts": documents,
            **_present({"truncate": parameters.truncation}),
            **parameters.extra,
        }

    def read(self, answer: object, count: int) -> PartScores:
        """Read the scores; see `Dialect.read`."""
        return PartScores(_scores(answer, "score", count))

    def is_too_large(self, reply: Reply) -> bool:
        """See `Dialect.is_too_large`; TEI answers a request of too many documents with a 422."""
        batch = reply.status == 422 and b"maximum allowed batch size" in reply.body
        return batch or super().is_too_large(reply)


class SageMaker(Dialect):
    """`POST /invocations` of Jina's containers (its jina-sagemaker client).

    Args:
        as_list: Whether `data` is a list of requests, as jina-reranker-m0 and later have it.
    """

    name = "sagemaker"
    path = ("invocations",)
    max_documents = 512
    unsupported = frozenset({"max_doc_length", "truncation", "instruction"})

    def __init__(self, *, as_list: bool = False) -> None:
        self._as_list = as_list

    def body(self, query: str, documents: Sequence[str], parameters: Parameters) -> dict[str, Any]:
        """Build the request; see `Dialect.body`."""
        data = {
            "documents": [{"text": document} for document in documents],
            "query": query,
            "top_n": len(documents),
        }
        return {"data": [data] if self._as_list else data, **parameters.extra}

    def read(self, answer: object, count: int) -> PartScores:
        """Read the scores; see `Dialect.read`."""
        data = _mapping(answer, "the answer").get("data")
        if not isinstance(data, list) or len(data) != 1:
            raise ContractError("data is not a list of one result set")
        result = _mapping(data[0], "data[0]")
        scores = _scores(result.get("results"), "relevance_score", count)
        counts = [
            _count(_part(result, usage), "total_tokens") for usage in ("query_usage", "docs_usage")
        ]
        # docs_usage is not always there, and one of the two counts is no total.
        tokens = [number for number in counts if number is not None]
        return PartScores(scores, sum(tokens) if len(tokens) == len(counts) else None)


_DIALECTS: dict[str, Dialect] = {
    d.name: d for d in (Jina(), Cohere(), Voyage(), Tei(), SageMaker())
}


def find_dialect(name: str) -> Dialect:
    """Find a dialect by its name.

    Raises:
        ConfigurationError: There is none.
    """
    if not isinstance(name, str) or name not in _DIALECTS:
        raise ConfigurationError(f"dialect must be one of {get_args(DialectName)}, not {name!r}")
    return _DIALECTS[name]


def key_variables(dialect: str) -> tuple[str, ...]:
    """List the environment variables for a dialect's key; none for an unknown dialect."""
    known = _DIALECTS.get(dialect) if isinstance(dialect, str) else None
    return () if known is None else known.key_variables


def read_json(body: bytes) -> object:
    """Parse a body as strict JSON.

    Raises:
        ContractError: It is not.
    """
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ContractError(f"not UTF-8 at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        start = body[:60].decode("utf-8", "replace")
        raise ContractError(f"not JSON ({error}); it begins with {start!r}") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _scores(results: object, key: str, count: int) -> list[float]:
    """Read the scores, in input order, from results in any order."""
    if not isinstance(results, list):
        raise ContractError("there is no list of results")
    if len(results) != count:
        raise ContractError(f"{len(results):,} results for {count:,} documents")
    scores: list[float | None] = [None] * count
    for place, item in enumerate(results):
        result = _mapping(item, f"results[{place}]")
        index, score = result.get("index"), result.get(key)
        # A bool is an int in Python, but an error in an answer.
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count:
            raise ContractError(f"results[{place}] has the index {index!r} of {count:,} documents")
        if not isinstance(score, int | float) or isinstance(score, bool) or not _is_finite(score):
            raise ContractError(f"results[{place}] has the {key} {score!r}")
        if scores[index] is not None:
            raise ContractError(f"results[{place}] has the index {index} for the second time")
        scores[index] = float(score)
    return [score for score in scores if score is not None]


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number of some hundred digits
        return False


def _mapping(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ContractError(f"{name} is {type(value).__name__} and not an object")
    return value


def _part(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Get an object that may be absent, since a ranking does not need it."""
    part = value.get(key)
    return part if isinstance(part, dict) else {}


def _count(value: Mapping[str, Any], key: str) -> int | None:
    number = value.get(key)
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    return int(number) if _is_finite(number) and number >= 0 else None

"""The ways in which services say the same thing. One is chosen by its name and never guessed."""

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
from .wire import Reply

DialectName = Literal["jina", "cohere", "voyage", "tei", "sagemaker"]
"""`"jina"`: Jina's hosted API, its server for one's own machines, vLLM, infinity, Xinference,
llama.cpp, LocalAI, and this project's own server. `"cohere"`: version 2 of Cohere's. `"voyage"`:
Voyage's. `"tei"`: Hugging Face's text-embeddings-inference. `"sagemaker"`: Jina's containers on
SageMaker."""


_LONGEST_REASON = 300
"""Characters of a service's own words."""


class ContractError(Exception):
    """An answer that breaks the contract; the message says how."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of each request beside the query and the documents.

    Attributes:
        model: The service's name for the model, or None.
        max_doc_length: Longest document in tokens, where the service can be told.
        truncation: Whether longer ones are cut, where the service can be told.
        instruction: What makes a document relevant, where the service can be told.
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
        name: What it is called here.
        base_url: Where the service is unless said otherwise, or None.
        path: Path of the endpoint, in segments.
        key_variables: Environment variables where a key is looked for that was not given.
        default_model: The model to ask for, or None.
        needs_model: Whether a request must name one.
        max_documents: The most documents in one request.
        unsupported: The names of the `Parameters` that the service cannot be told.
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
        """The request, as what will be JSON."""

    @abstractmethod
    def read(self, answer: object, count: int) -> PartScores:
        """The scores in an answer to `count` documents.

        Raises:
            ContractError: It is not one.
        """

    def parameters_for(self, request: ScoreRequest, own: Parameters) -> Parameters:
        """Find what goes into the parts of a request: its options, then the scorer's own.

        Args:
            request: Whose options go first.
            own: The scorer's.

        Raises:
            InputError: The service cannot be told one of the options.
        """
        if request.long_documents is not None:
            if request.long_documents == "chunk" or "truncation" in self.unsupported:
                raise self._cannot_tell(request, "long_documents")
            own = replace(own, truncation=request.long_documents == "truncate")
        if request.max_document_tokens is not None:
            if "max_doc_length" in self.unsupported:
                raise self._cannot_tell(request, "max_document_tokens")
            own = replace(own, max_doc_length=request.max_document_tokens)
        if request.instruction is not None:
            if "instruction" in self.unsupported:
                refuse_instruction(request, f"a {self.name!r} service")
            own = replace(own, instruction=request.instruction)
        return own

    def _cannot_tell(self, request: ScoreRequest, option: str) -> InputError:
        value = getattr(request, option)
        problem = f"{value!r} cannot be told to a {self.name!r} service; leave it out"
        return InputError(f"{request.name}{option}", problem)

    def is_too_large(self, reply: Reply) -> bool:
        """Tell whether a reply means that fewer documents at a time might do."""
        # 413: too many bytes. 504: it took too long, "try with smaller inputs".
        return reply.status in {413, 504}


class Jina(Dialect):
    """`POST /v1/rerank` (hosted OpenAPI, version 2026.04.02).

    `return_documents` is sent, since its default was changed and is documented both ways; the
    texts are here anyway. `top_n` is not: all scores are wanted, and without it all are given.
    """

    name = "jina"
    base_url = "https://api.jina.ai"
    path = ("v1", "rerank")
    key_variables = KEY_VARIABLES
    default_model = "jina-reranker-v3.5"
    needs_model = True
    max_documents = 512  # the smallest figure that Jina has published for one request

    def body(self, query: str, documents: Sequence[str], parameters: Parameters) -> dict[str, Any]:
        """The request; see `Dialect.body`."""
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
        """The scores; see `Dialect.read`."""
        answer = _mapping(answer, "the answer")
        scores = _scores(answer.get("results"), "relevance_score", count)
        # Only `jina-rerank serve` has it.
        said = answer.get("degraded")
        degraded = f"the service says: {said[:_LONGEST_REASON]}" if isinstance(said, str) else None
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
        """The request; see `Dialect.body`."""
        return {
            "model": parameters.model,
            "query": query,
            "documents": documents,
            **_present({"max_tokens_per_doc": parameters.max_doc_length}),
            **parameters.extra,
        }

    def read(self, answer: object, count: int) -> PartScores:
        """The scores; see `Dialect.read`."""
        answer = _mapping(answer, "the answer")
        scores = _scores(answer.get("results"), "relevance_score", count)
        return PartScores(scores, _count(_part(_part(answer, "meta"), "tokens"), "input_tokens"))


class Voyage(Dialect):
    """`POST /v1/rerank` of Voyage AI.

    `top_k` is not sent: all scores are wanted, and without it all are given.
    """

    name = "voyage"
    base_url = "https://api.voyageai.com"
    path = ("v1", "rerank")
    key_variables = ("VOYAGE_API_KEY",)
    needs_model = True
    max_documents = 1000  # its own limit
    unsupported = frozenset({"max_doc_length", "instruction"})

    def body(self, query: str, documents: Sequence[str], parameters: Parameters) -> dict[str, Any]:
        """The request; see `Dialect.body`."""
        return {
            "model": parameters.model,
            "query": query,
            "documents": documents,
            "return_documents": False,
            **_present({"truncation": parameters.truncation}),
            **parameters.extra,
        }

    def read(self, answer: object, count: int) -> PartScores:
        """The scores; see `Dialect.read`."""
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
        """The request; see `Dialect.body`."""
        return {
            "query": query,
            "texts": documents,
            **_present({"truncate": parameters.truncation}),
            **parameters.extra,
        }

    def read(self, answer: object, count: int) -> PartScores:
        """The scores; see `Dialect.read`."""
        return PartScores(_scores(answer, "score", count))

    def is_too_large(self, reply: Reply) -> bool:
        """See `Dialect.is_too_large`; too many documents are a 422 there."""
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
        """The request; see `Dialect.body`."""
        data = {
            "documents": [{"text": document} for document in documents],
            "query": query,
            "top_n": len(documents),
        }
        return {"data": [data] if self._as_list else data, **parameters.extra}

    def read(self, answer: object, count: int) -> PartScores:
        """The scores; see `Dialect.read`."""
        data = _mapping(answer, "the answer").get("data")
        if not isinstance(data, list) or len(data) != 1:
            raise ContractError("data is not a list of one result set")
        result = _mapping(data[0], "data[0]")
        scores = _scores(result.get("results"), "relevance_score", count)
        counts = [
            _count(_part(result, usage), "total_tokens") for usage in ("query_usage", "docs_usage")
        ]
        # docs_usage is not always there, and half a count is none.
        tokens = [number for number in counts if number is not None]
        return PartScores(scores, sum(tokens) if len(tokens) == len(counts) else None)


_DIALECTS: dict[str, Dialect] = {
    d.name: d for d in (Jina(), Cohere(), Voyage(), Tei(), SageMaker())
}


def find_dialect(name: str) -> Dialect:
    """The dialect of that name.

    Raises:
        ConfigurationError: There is none.
    """
    if not isinstance(name, str) or name not in _DIALECTS:
        raise ConfigurationError(f"dialect must be one of {get_args(DialectName)}, not {name!r}")
    return _DIALECTS[name]


def key_variables(dialect: str) -> tuple[str, ...]:
    """Where a key for a dialect's services is looked for; nowhere if there is no such dialect."""
    known = _DIALECTS.get(dialect) if isinstance(dialect, str) else None
    return () if known is None else known.key_variables


def read_json(body: bytes) -> object:
    """A body as strict JSON.

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
    """The scores in input order, from results in any order."""
    if not isinstance(results, list):
        raise ContractError("there is no list of results")
    if len(results) != count:
        raise ContractError(f"{len(results):,} results for {count:,} documents")
    scores: list[float | None] = [None] * count
    for place, item in enumerate(results):
        result = _mapping(item, f"results[{place}]")
        index, score = result.get("index"), result.get(key)
        # True is an int to Python and an error in an answer.
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
    """A field that may be absent; what it tells is not needed for a ranking."""
    part = value.get(key)
    return part if isinstance(part, dict) else {}


def _count(value: Mapping[str, Any], key: str) -> int | None:
    number = value.get(key)
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    return int(number) if _is_finite(number) and number >= 0 else None

"""`CachedScorer`: a cache, so that no score is computed twice."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from .._inputs import check_scorer
from .._installed import check_scorer_installed
from .._numbers import check_count
from ..errors import ConfigurationError, InputError, ScoringError
from ..ranking import Usage
from ._score_store import KEY_BYTES, VALUE_BYTES, ScoreStore
from .base import CacheableScorer, OnScored, ScoreRequest, ScoreResponse
from .service.parts import put_last

_NUMBERS = struct.Struct("<ddiii")
"""Fields stored for a pair: score, logit, tokens, truncated tokens, truncated tokens of the query.
NaN stands for no logit, and a negative count for no count."""
assert _NUMBERS.size == VALUE_BYTES

_UNSCORED = _NUMBERS.pack(math.nan, math.nan, -1, -1, -1)


class CachedScorer:
    """Takes known scores of pairs from a cache, and computes the others with a scorer.

    Scores depend on the query, the document and the model alone, so they can be kept for as long
    as there is room. The scores that a call lacks are computed in one call to the scorer, each
    pair once. Texts are never stored, only digests of them and numbers.

    Only complete answers are stored: none that is degraded, has unscored documents, or comes from
    another model than the scorer's `model`. In an answer with unscored documents, the other
    documents still have their cached scores. Any other incomplete answer is passed on as it is; if
    the cache had some of its documents, the scorer is asked again for all of them, so that scores
    which cannot be compared are never mixed.

    The cache never makes a call fail: a full or locked disk causes one warning in the log, and the
    scorer computes everything.

    Args:
        scorer: A `CacheableScorer`, such as `LocalScorer`.
        path: A file, which several processes can share and which is kept; it is created if its
            folder exists. None is a cache in memory, private to this object.
        max_entries: Largest number of scores; the least recently used are deleted first. A
            million take some 115 MB.

    Raises:
        ConfigurationError: The scorer's scores cannot be cached, or an argument is out of range.
            From `warm_up` or the first call: the file cannot be used.
    """

    def __init__(
        self,
        scorer: CacheableScorer,
        *,
        path: str | PathLike[str] | None = None,
        max_entries: int = 1_000_000,
    ) -> None:
        check_scorer(scorer, "scorer", "a scorer such as RemoteScorer(...) or LocalScorer()")
        # Not isinstance(): on Python 3.11 that would compute the fingerprint.
        if not {"fingerprint", "listwise"} <= {*dir(scorer)}:
            raise ConfigurationError(
                f"{type(scorer).__name__} cannot be cached: it lacks the properties fingerprint "
                "and listwise (see CacheableScorer). To cache within a fallback, write "
                "FallbackScorer(CachedScorer(first), ...)"
            )
        self._scorer = scorer
        self._path = _check_path(path)
        self._max_entries = check_count(max_entries, "max_entries")
        self._closed = False
        self._store = ScoreStore(self._path, self._max_entries)

    @property
    def model(self) -> str:
        """The name of the scorer's model."""
        return self._scorer.model

    def __repr__(self) -> str:
        path = None if self._path is None else str(self._path)
        return f"CachedScorer({self._scorer!r}, path={path!r}, max_entries={self._max_entries})"

    def check_installed(self) -> None:
        """Check now, and not at the first call, that the scorer's packages are installed.

        Raises:
            ConfigurationError: A package is missing.
        """
        check_scorer_installed(self._scorer)

    def warm_up(self) -> None:
        """Open the cache and warm up the scorer. Idempotent.

        Raises:
            ConfigurationError: The file cannot be used, or this scorer is closed.
            RerankError: As raised by the scorer's `warm_up`.
        """
        self._check_open()
        self._store.open()
        self._scorer.warm_up()

    async def awarm_up(self) -> None:
        """`warm_up` without blocking the event loop."""
        self._check_open()
        await asyncio.to_thread(self._store.open)
        await self._scorer.awarm_up()

    def score(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """Score every document of every request; see `Scorer.score`.

        `usage` is the cost of this call: `tokens` are those that the scorer computed, 0 if it was
        not called; `cached_documents` are those that it did not compute, since the cache had them
        or the same call has them twice. Truncated documents and query tokens are counted whether
        cached or not.
        """
        self._check_open()
        call = self._look_up(requests)
        try:
            computed = self._scorer.score(call.lacking, on_scored) if call.lacking else []
        except InputError:
            if not call.shortened:
                raise
            # The error names a document by its place among those that the cache lacked.
            return self._scorer.score(requests, on_scored)
        self._merge(call, computed)
        if call.again:
            _pass_on(call, self._scorer.score(call.again, on_scored))
        return call.answers

    async def ascore(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """`score` without blocking the event loop; cancelling it stops the work."""
        self._check_open()
        # In threads: the disk may be slow, and hashing 100,000 documents takes its time.
        call = await asyncio.to_thread(self._look_up, requests)
        try:
            computed = await self._scorer.ascore(call.lacking, on_scored) if call.lacking else []
        except InputError:
            if not call.shortened:
                raise
            return await self._scorer.ascore(requests, on_scored)
        await asyncio.to_thread(self._merge, call, computed)
        if call.again:
            _pass_on(call, await self._scorer.ascore(call.again, on_scored))
        return call.answers

    def close(self) -> None:
        """Close the cache and the scorer. Idempotent."""
        self._closed = True
        self._store.close()
        self._scorer.close()

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        self._closed = True
        await asyncio.to_thread(self._store.close)
        await self._scorer.aclose()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_store"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _store=ScoreStore(state["_path"], state["_max_entries"]))

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigurationError(f"the cached scorer of {self.model} is closed; make a new one")

    def _look_up(self, requests: Sequence[ScoreRequest]) -> _Call:
        fingerprint, model, listwise = self._scorer.fingerprint, self.model, self._scorer.listwise
        keys = [_keys(fingerprint, model, listwise, request) for request in requests]
        known = self._store.get({key for own in keys for key in own})
        asked: set[bytes] = set()
        call = _Call(requests, fingerprint, keys, known)
        for request, own in zip(requests, keys, strict=True):
            places = []
            for place, key in enumerate(own):
                if key not in known and key not in asked:
                    asked.add(key)
                    places.append(place)
            if places and listwise:
                # The scorer gets the whole list: scores of a part of it would be different.
                places = list(range(len(own)))
            call.places.append(places)
            if places:
                documents = [request.documents[place] for place in places]
                call.lacking.append(replace(request, documents=documents))
        return call

    def _merge(self, call: _Call, computed: Sequence[ScoreResponse]) -> None:
        """Store the computed scores, and fill `call.answers` and `call.again`."""
        if len(computed) != len(call.lacking):
            raise ScoringError(
                f"{self.model} answered {len(computed)} of {len(call.lacking)} requests"
            )
        # The loaded model may differ from the one that was on disk when the keys were made.
        same_model = not computed or self._scorer.fingerprint == call.fingerprint
        rest = iter(computed)
        responses = [next(rest) if places else None for places in call.places]
        whole: dict[bytes, bytes] = {}
        for response, keys, places in zip(responses, call.keys, call.places, strict=True):
            if response is None or not same_model or not self._is_comparable(response, len(places)):
                continue
            skip = set(response.unscored)
            fresh = {
                keys[place]: value
                for i, (place, value) in enumerate(zip(places, _pack(response), strict=True))
                if i not in skip
            }
            call.known.update(fresh)
            if response.degraded is None and not skip:
                whole.update(fresh)
        self._store.put({key: value for key, value in whole.items() if _is_finite(value)})
        for request, keys, places, response in zip(
            call.requests, call.keys, call.places, responses, strict=True
        ):
            unknown = {key for key in keys if key not in call.known}
            if unknown and response is not None and len(places) == len(keys):
                call.answers.append(_uncached(response))
            elif unknown and (
                response is None or not unknown <= {keys[places[i]] for i in response.unscored}
            ):
                call.places_again.append(len(call.answers))
                call.again.append(request)
                # A placeholder until the request is scored as a whole.
                call.answers.append(ScoreResponse([], Usage(0)))
            else:
                values = [call.known.get(key) for key in keys]
                call.answers.append(_answer(values, len(places), response))

    def _is_comparable(self, response: ScoreResponse, documents: int) -> bool:
        """Tell whether the scores of a response can be compared with scores from the cache."""
        columns = (response.scores, response.logits, response.tokens, response.truncated_tokens)
        return (
            (response.degraded is None or bool(response.unscored))
            and not (response.unscored and self._scorer.listwise)
            and response.model in {None, self.model}
            and all(column is None or len(column) == documents for column in columns)
        )


@dataclass(slots=True)
class _Call:
    """Plan for the requests of one call.

    Attributes:
        requests: The requests of the call.
        fingerprint: The scorer's fingerprint when the keys were made.
        keys: Keys of each document of each request.
        known: The numbers of known documents, packed, by key.
        places: Places of the documents that the scorer is asked for, for each request.
        lacking: The requests to the scorer, one for each entry of `places` that is not empty.
        answers: The answer to each request.
        again: Requests that must be scored again as a whole.
        places_again: Places of these requests in `answers`.
    """

    requests: Sequence[ScoreRequest]
    fingerprint: str
    keys: list[list[bytes]]
    known: dict[bytes, bytes]
    places: list[list[int]] = field(default_factory=list)
    lacking: list[ScoreRequest] = field(default_factory=list)
    answers: list[ScoreResponse] = field(default_factory=list)
    again: list[ScoreRequest] = field(default_factory=list)
    places_again: list[int] = field(default_factory=list)

    @property
    def shortened(self) -> bool:
        """Tell whether a request to the scorer has fewer documents than the original one."""
        return any(
            0 < len(places) < len(keys) for places, keys in zip(self.places, self.keys, strict=True)
        )


def _check_path(path: str | PathLike[str] | None) -> Path | None:
    if path is None:
        return None
    if not isinstance(path, str | PathLike):
        raise ConfigurationError(f"path must be a file or None, not {type(path).__name__}")
    if fspath(path) in {"", ":memory:"}:
        raise ConfigurationError(f"path is {fspath(path)!r}; leave it out for a cache in memory")
    # Absolute, so that it stays the same file in a pickle, or when the current folder changes.
    return Path(path).expanduser().absolute()


def _keys(fingerprint: str, model: str, listwise: bool, request: ScoreRequest) -> list[bytes]:
    """Compute a digest for each document, of all that its score depends on."""
    from hashlib import blake2b

    common = blake2b(digest_size=KEY_BYTES)
    for text in (
        fingerprint,
        model,
        "list" if listwise else "pair",
        request.long_documents or "",
        str(request.max_document_tokens or ""),
        request.instruction or "",
        request.query,
    ):
        common.update(_with_length(text))
    if listwise:
        common.update(len(request.documents).to_bytes(8))
        for document in request.documents:
            common.update(_with_length(document))
    keys = []
    for place, document in enumerate(request.documents):
        key = common.copy()
        key.update(place.to_bytes(8) if listwise else _with_length(document))
        keys.append(key.digest())
    return keys


def _with_length(text: str) -> bytes:
    """Encode a text with its length in front, so that joined texts cannot be confused."""
    data = text.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(8) + data


def _pack(response: ScoreResponse) -> list[bytes]:
    """Pack the numbers of each document of an answer."""
    documents = len(response.scores)
    query = response.usage.truncated_query_tokens
    none = [-1] * documents
    columns = zip(
        response.scores,
        [math.nan] * documents if response.logits is None else response.logits,
        none if response.tokens is None else response.tokens,
        none if response.truncated_tokens is None else response.truncated_tokens,
        none if query is None else [query] * documents,
        strict=True,
    )
    return [_NUMBERS.pack(*numbers) for numbers in columns]


def _is_finite(value: bytes) -> bool:
    score, logit, *_ = _NUMBERS.unpack(value)
    return math.isfinite(score) and not math.isinf(logit)


def _answer(
    values: Sequence[bytes | None], computed: int, response: ScoreResponse | None
) -> ScoreResponse:
    """Build the answer to a request; `computed` of its scores come from `response`."""
    unscored = tuple(i for i, value in enumerate(values) if value is None)
    packed = b"".join(_UNSCORED if value is None else value for value in values)
    scores, logits = _floats(packed, 0), _floats(packed, 1)
    put_last(scores, unscored)
    tokens, truncated, query = (_counts(packed, column) for column in (2, 3, 4))
    truncated_documents = None
    if truncated is not None:
        truncated_documents = sum(1 for count in truncated if count)
    elif response is not None and computed == len(values):
        truncated_documents = response.usage.truncated_documents
    return ScoreResponse(
        scores=scores,
        usage=Usage(
            documents=len(values) - len(unscored),
            tokens=0 if response is None else response.usage.tokens,
            truncated_documents=truncated_documents,
            truncated_query_tokens=query[0] if query else None,
            cached_documents=len(values) - computed,
        ),
        logits=None if any(map(math.isnan, logits)) else logits,
        tokens=tokens,
        truncated_tokens=truncated,
        degraded=None if response is None else response.degraded,
        unscored=unscored,
        model=None if response is None else response.model,
        timings=None if response is None else response.timings,
    )


def _floats(packed: bytes, column: int) -> list[float]:
    return [numbers[column] for numbers in _NUMBERS.iter_unpack(packed)]


def _counts(packed: bytes, column: int) -> list[int] | None:
    """Read a column of counts; None if one of them is unknown."""
    counts = [numbers[column] for numbers in _NUMBERS.iter_unpack(packed)]
    return None if min(counts, default=0) < 0 else counts


def _uncached(response: ScoreResponse) -> ScoreResponse:
    return replace(response, usage=replace(response.usage, cached_documents=0))


def _pass_on(call: _Call, responses: Sequence[ScoreResponse]) -> None:
    if len(responses) != len(call.again):
        raise ScoringError(f"{len(responses)} of {len(call.again)} requests were answered")
    for place, response in zip(call.places_again, responses, strict=True):
        call.answers[place] = _uncached(response)

"""Scoring in steps: cut to fit, pack by length across all queries, run, report."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, InputError
from ..ranking import Timings, Usage
from ._ahead import one_ahead
from ._pair_model import PairModel, PairReader, Wanted
from ._progress import TokenProgress
from .base import LongDocuments, OnScored, ScoreRequest, ScoreResponse, refuse_instruction

if TYPE_CHECKING:
    from ..encoders.tokenizer import Query, TokenIds, TokenPair
    from .worker import Steps

logger = logging.getLogger(__name__)

CHARACTERS_PER_WINDOW = 500_000
"""Characters that are tokenized at a time. While their pairs are scored, the next window is
tokenized, and no further one. So the memory of a call, beside its documents, depends on this and
not on their number."""

LEAST_ROOM = 8
"""Fewest tokens that must be left for a query and a document, beside a model's template."""


@dataclass(frozen=True, slots=True)
class _Query:
    """A request's query, tokenized.

    Attributes:
        kept: The part of the query that is read.
        truncated_tokens: Number of tokens that are cut off.
        room: Tokens that are left for a document, by the usual number of special tokens.
        max_length: Longest pair in tokens.
        long_documents: Treatment of a document that does not fit.
    """

    kept: Query
    truncated_tokens: int
    room: int
    max_length: int
    long_documents: LongDocuments


@dataclass(frozen=True, slots=True)
class _Window:
    """Documents that are tokenized together, with their places and their pairs.

    Attributes:
        places: Number of the request, and number of the document in it, for each document.
        tokens: Number of tokens of each whole document.
        rooms: Number of a document's tokens that fit beside the query, for each document.
        pairs: Pairs of all documents.
        parts_of: Positions in `pairs` of each document's pairs.
    """

    places: Sequence[tuple[int, int]]
    tokens: Sequence[int]
    rooms: Sequence[int]
    pairs: Sequence[TokenPair]
    parts_of: Sequence[range]


def score_in_steps(
    model: PairModel,
    requests: Sequence[ScoreRequest],
    max_length: int,
    long_documents: LongDocuments,
    on_scored: OnScored | None,
    *,
    submitted: float,
) -> Steps[list[ScoreResponse]]:
    """Score every document of every request, one batch a step.

    The worker may join a batch with batches of other calls. Documents of all requests are sorted
    together, longest first: by characters, so that not all texts must be tokenized at once, and
    within a window by tokens.

    Args:
        model: The model that computes the logits.
        requests: The requests of the call; their options go before `long_documents`.
        max_length: Longest pair in tokens.
        long_documents: Default for requests without this option.
        on_scored: Called with the progress of the call.
        submitted: Time of the call, by `time.perf_counter`.
    """
    clock = _Clock(submitted)
    max_length = min(max_length, model.max_length)
    queries = _tokenize_queries(model.tokenizer, requests, max_length, long_documents)
    answers = [_Answer.of_size(len(request.documents)) for request in requests]
    order = _longest_first(requests)
    progress = None
    if on_scored is not None:
        characters = [len(requests[r].documents[d]) for r, d in order]
        around = [max_length - queries[r].room for r, _ in order]
        chunked = any(query.long_documents == "chunk" for query in queries)
        longest = None if chunked else max_length
        progress = TokenProgress(on_scored, characters, around, longest)

    def tokenize(places: Sequence[tuple[int, int]]) -> _Window:
        return _tokenize_documents(model.tokenizer, requests, queries, places)

    first: dict[bytes, float] = {}
    with closing(one_ahead(tokenize, _windows(requests, order))) as windows:
        for window in windows:
            if progress is not None:
                tokens_of_pairs = sum(len(pair) for pair in window.pairs)
                progress.tokenized(len(window.places), sum(window.tokens), tokens_of_pairs)
            logits = yield from _run(model, window.pairs, clock, progress)
            # Equal texts must tie, but in float32 the last bits of a logit depend on its row in the
            # batch.
            logits = [
                first.setdefault(_digest(pair), logit)
                for pair, logit in zip(window.pairs, logits, strict=True)
            ]
            for (r, d), found, room, own in zip(
                window.places, window.tokens, window.rooms, window.parts_of, strict=True
            ):
                answer = answers[r]
                answer.computed += sum(len(window.pairs[i]) for i in own)
                answer.logits[d] = _best([logits[i] for i in own])
                answer.tokens[d] = found if len(own) > 1 else min(found, room)
                answer.truncated[d] = found - answer.tokens[d]
    timings = clock.timings()
    return [
        answer.response(query.truncated_tokens, timings)
        for answer, query in zip(answers, queries, strict=True)
    ]


@dataclass(slots=True)
class _Answer:
    """One request's columns while they are being filled."""

    logits: list[float]
    tokens: list[int]
    truncated: list[int]
    computed: int = 0

    @classmethod
    def of_size(cls, documents: int) -> _Answer:
        return cls([math.nan] * documents, [0] * documents, [0] * documents)

    def response(self, truncated_query_tokens: int, timings: Timings) -> ScoreResponse:
        documents = len(self.logits)
        truncated = sum(1 for tokens in self.truncated if tokens)
        if truncated:
            logger.info("%d of %d documents were truncated", truncated, documents)
        return ScoreResponse(
            scores=[_sigmoid(logit) for logit in self.logits],
            usage=Usage(documents, self.computed, truncated, truncated_query_tokens),
            logits=self.logits,
            tokens=self.tokens,
            truncated_tokens=self.truncated,
            timings=timings,
        )


class _Clock:
    """Clock of a call: the seconds of waiting, tokenizing and computing."""

    def __init__(self, submitted: float) -> None:
        self._submitted = submitted
        self._waiting = time.perf_counter() - submitted
        self._computing = 0.0

    def gave_way(self, seconds: float, computing: float) -> None:
        """Count the seconds of a step, `computing` of which went to this call's batch."""
        self._waiting += seconds - computing
        self._computing += computing

    def timings(self) -> Timings:
        elapsed = time.perf_counter() - self._submitted
        own = elapsed - self._waiting - self._computing
        return Timings(waiting=self._waiting, tokenizing=own, computing=self._computing)


def _tokenize_queries(
    tokenizer: PairReader,
    requests: Sequence[ScoreRequest],
    max_length: int,
    long_documents: LongDocuments,
) -> list[_Query]:
    """Tokenize each query once, cut to at most half of the room; compute the room that is left."""
    from ..encoders.tokenizer import Query

    available = max_length - tokenizer.special_tokens
    share = available // 2
    if available < LEAST_ROOM:
        raise ConfigurationError(
            f"max_length: {max_length:,} leaves no room for a query and a document beside the "
            f"{tokenizer.special_tokens:,} tokens of the model's template; give more"
        )
    for request in requests:
        if request.instruction is not None and not tokenizer.has_instruction:
            refuse_instruction(request, "the model's template")
    queries = []
    for request, ids in zip(requests, tokenizer.encode([r.query for r in requests]), strict=True):
        wanted = request.long_documents or long_documents
        text = request.query
        if len(ids) > share:
            problem = f"has {len(ids):,} tokens, and its share of {max_length:,} is {share:,}"
            if wanted == "error":
                raise InputError(f"{request.name}query", f"{problem}; shorten it")
            logger.warning("%squery %s: it is cut", request.name, problem)
            (text,) = tokenizer.beginnings([text], share)
        kept = ids[:share]
        cut, room = len(ids) - len(kept), available - len(kept)
        read = Query(text, kept, request.instruction)
        queries.append(_Query(read, cut, room, max_length, wanted))
    return queries


def _tokenize_documents(
    tokenizer: PairReader,
    requests: Sequence[ScoreRequest],
    queries: Sequence[_Query],
    places: Sequence[tuple[int, int]],
) -> _Window:
    """Make the pairs of some documents; `places` are the numbers of request and document."""
    texts = [requests[r].documents[d] for r, d in places]
    limits = [requests[r].max_document_tokens for r, _ in places]
    found = tokenizer.documents([queries[r].kept for r, _ in places], texts, limits)
    pairs: list[TokenPair] = []
    parts_of: list[range] = []
    rooms: list[int] = []
    for (r, d), document in zip(places, found, strict=True):
        query = queries[r]
        room = query.max_length - document.around
        if room < 1 and requests[r].instruction is not None:
            raise InputError(
                f"{requests[r].name}instruction",
                f"leaves no room for a document in {query.max_length:,} tokens; shorten it",
            )
        if query.long_documents == "error" and len(document.ids) > room:
            raise InputError(
                f"{requests[r].name}documents[{d}]",
                f"has {len(document.ids):,} tokens and {room:,} fit beside the query; "
                'split it, or use long_documents="truncate" or "chunk"',
            )
        parts = _cut(document.ids, room, query.long_documents)
        parts_of.append(range(len(pairs), len(pairs) + len(parts)))
        rooms.append(room)
        pairs += [document.pair(part) for part in parts]
    return _Window(places, [len(document.ids) for document in found], rooms, pairs, parts_of)


def _longest_first(requests: Sequence[ScoreRequest]) -> list[tuple[int, int]]:
    """Sort all documents by length; each is given by the numbers of request and document."""
    everything = [
        (r, d) for r, request in enumerate(requests) for d in range(len(request.documents))
    ]
    everything.sort(key=lambda rd: -len(requests[rd[0]].documents[rd[1]]))
    return everything


def _windows(
    requests: Sequence[ScoreRequest], order: Sequence[tuple[int, int]]
) -> Iterator[list[tuple[int, int]]]:
    """Group documents, in the order given, up to a number of characters."""
    window: list[tuple[int, int]] = []
    characters = 0
    for r, d in order:
        # The constant stands for the objects that even an empty document needs.
        size = len(requests[r].documents[d]) + 100
        if window and characters + size > CHARACTERS_PER_WINDOW:
            yield window
            window, characters = [], 0
        window.append((r, d))
        characters += size
    if window:
        yield window


def _cut(ids: TokenIds, room: int, long_documents: LongDocuments) -> list[TokenIds]:
    """Cut a document into the parts that are scored: one, or the chunks of a long document.

    Chunks are as long as fits and overlap by a quarter, so that a passage at a border is whole in
    one of them; the last chunk ends with the document.
    """
    if len(ids) <= room or long_documents != "chunk":
        return [ids[:room]]
    step = max(1, room - room // 4)
    starts = [*range(0, len(ids) - room, step), len(ids) - room]
    return [ids[start : start + room] for start in starts]


def _run(
    model: PairModel, pairs: Sequence[TokenPair], clock: _Clock, progress: TokenProgress | None
) -> Steps[list[float]]:
    from ..encoders.packing import pack

    logits = [math.nan] * len(pairs)
    for group in pack([len(pair) for pair in pairs], model.batch_tokens):
        wanted = Wanted(model, [pairs[i] for i in group])
        asked = time.perf_counter()
        computed = yield wanted
        clock.gave_way(time.perf_counter() - asked, computed.seconds)
        for position, logit in zip(group, computed.logits, strict=True):
            logits[position] = logit
        if progress is not None:
            progress.computed(wanted.tokens)
    return logits


def _digest(pair: TokenPair) -> bytes:
    digest = blake2b(pair.input_ids, digest_size=16)
    digest.update(pair.token_type_ids)
    return digest.digest()


def _best(logits: Sequence[float]) -> float:
    # max() would return a NaN or skip it, depending on its position.
    return math.nan if any(map(math.isnan, logits)) else max(logits)


def _sigmoid(logit: float) -> float:
    """Compute the sigmoid in float64: in bf16 or fp32 scores of good documents would tie at 1."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    return math.exp(logit) / (1 + math.exp(logit))

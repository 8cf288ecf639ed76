"""`evaluate`: compare systems on the candidates of one collection."""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path

from .._inputs import check_positive, check_request
from .._numbers import sum_if_known
from .._output import held
from ..errors import ConfigurationError, InputError, ScoringError
from .collection import Collection
from .first_stage import Run, best_first
from .measures import DEFAULT_MEASURES, measure
from .results import Cost, Evaluation, SystemResult
from .state import Finished, StateFile, fingerprint_candidates
from .systems import (
    FIRST_STAGE,
    Candidates,
    FirstStageSystem,
    MixedSystem,
    System,
    SystemScores,
)

logger = logging.getLogger(__name__)

WINDOW = 16
"""Number of queries that are scored together, so that batches are full, and saved together."""


def evaluate(
    collection: Collection,
    first_stage: Run,
    systems: Sequence[System | MixedSystem],
    *,
    depth: int = 100,
    measures: Sequence[str] = DEFAULT_MEASURES,
    ignore_identical_ids: bool = False,
    state: Path | None = None,
    progress: bool = False,
) -> Evaluation:
    """Have each system order the same candidates, and measure the results.

    Args:
        collection: The queries, the documents and their judgements.
        first_stage: The candidates; every document must be in the collection. Queries without
            candidates count as 0 for all systems.
        systems: The systems to compare, each with a different name.
        depth: Number of the first stage's best documents to order, at least 1.
        measures: Names of measures, as in ir-measures.
        ignore_identical_ids: True to leave out the candidate that has the query's id, for
            collections whose queries are documents too, as BEIR does. A judgement of it still
            counts.
        state: A folder for finished queries, one file for each system that has a fingerprint. A
            later call reuses a file if its fingerprint says that collection, candidates and system
            are the same, and otherwise writes it again. Only one call may use it at a time.
        progress: True to show progress bars on standard error.

    Returns:
        The first stage's result and one for each system, in their order.

    Raises:
        InputError: `depth` is below 1, the candidates do not fit the collection, a text cannot be
            used, or `state` cannot be written.
        ConfigurationError: Two systems have one name, a measure cannot be computed, or another
            call is using `state`.
        RerankError: As a system's `score`.
    """
    depth = check_positive(depth, "depth")
    _check_names(systems)
    candidates = _gather(collection, first_stage, depth, ignore_identical_ids)
    if missing := collection.missing_documents:
        logger.warning(
            "%s: %s judged documents are missing, %r is the first; no system can find them",
            collection.name,
            f"{len(missing):,}",
            missing[0],
        )
    found = {one.query_id for one in candidates}
    if empty := [query for query in collection.queries if query not in found]:
        logger.warning(
            "%s: the first stage has no documents for %s queries, %r is the first; they count as 0",
            collection.name,
            f"{len(empty):,}",
            empty[0],
        )
    scoring = _Scoring(candidates, state, progress)
    results = []
    with nullcontext() if state is None else held(state):
        # The first stage is measured before the others score, so that a measure that cannot be
        # computed raises its error before hours are spent.
        for system in [FirstStageSystem(), *systems]:
            scores, cost = scoring.outcome(system)
            run = _order(candidates, scores)
            measured = measure(run, collection.qrels, measures)
            comparable = not isinstance(system, FirstStageSystem | MixedSystem)
            given = _by_document(candidates, scores) if comparable else None
            results.append(SystemResult(system.name, run, measured, cost, given))
    return Evaluation(collection, depth, tuple(measures), ignore_identical_ids, tuple(results))


def _check_names(systems: Sequence[System | MixedSystem]) -> None:
    names = [FIRST_STAGE, *(system.name for system in systems)]
    asked: dict[str, System] = {FIRST_STAGE: FirstStageSystem()}
    for system in systems:
        if system.name == FIRST_STAGE:
            raise ConfigurationError(f"{FIRST_STAGE} is evaluated in any case; leave it out")
        if names.count(system.name) > 1:
            raise _called_alike(system.name)
        if isinstance(system, MixedSystem):
            for part in (system.first, system.second):
                _check_part(part, asked)
        else:
            _check_part(system, asked)
    for system in systems:
        if isinstance(system, MixedSystem) and system.name in asked:
            raise _called_alike(system.name)


def _check_part(part: System, asked: dict[str, System]) -> None:
    """Check that systems with the same name are the same, since only one of them scores."""
    other = asked.setdefault(part.name, part)
    if type(other) is not type(part) or other.fingerprint != part.fingerprint:
        raise _called_alike(part.name)


def _called_alike(name: str) -> ConfigurationError:
    return ConfigurationError(f"two systems are called {name!r}; give one another name")


def _gather(
    collection: Collection, first_stage: Run, depth: int, ignore_identical_ids: bool
) -> list[Candidates]:
    gathered = []
    for query, text in collection.queries.items():
        found = dict(first_stage.get(query, {}))
        if ignore_identical_ids:
            found.pop(query, None)
        identifiers = best_first(found)[:depth]
        for identifier in identifiers:
            if identifier not in collection.documents:
                raise InputError(
                    "first_stage",
                    f"has the document {identifier!r} for the query {query!r}, which "
                    f"{collection.name} lacks",
                )
        documents = [collection.documents[identifier] for identifier in identifiers]
        if documents:
            check_request(text, documents, name=f"{collection.name}, query {query}: ")
            scores = [found[identifier] for identifier in identifiers]
            gathered.append(Candidates(query, text, identifiers, documents, scores))
    if not gathered:
        raise InputError("first_stage", f"has no documents for any query of {collection.name}")
    return gathered


def _order(candidates: Iterable[Candidates], scores: dict[str, SystemScores]) -> Run:
    run: dict[str, dict[str, float]] = {}
    for one in candidates:
        given = dict(zip(one.document_ids, scores[one.query_id].order, strict=True))
        run[one.query_id] = {document: given[document] for document in best_first(given)}
    return run


def _by_document(candidates: Iterable[Candidates], scores: dict[str, SystemScores]) -> Run:
    return {
        one.query_id: dict(zip(one.document_ids, scores[one.query_id].scores, strict=True))
        for one in candidates
    }


_Outcome = tuple[dict[str, SystemScores], Cost | None]


class _Scoring:
    """Has each system score once, no matter how many mixes it is part of."""

    def __init__(self, candidates: list[Candidates], state: Path | None, progress: bool) -> None:
        self._candidates = candidates
        self._state = state
        self._progress = progress
        self._digest = fingerprint_candidates(candidates) if state is not None else ""
        self._outcomes: dict[str, _Outcome] = {}

    def outcome(self, system: System | MixedSystem) -> _Outcome:
        if system.name not in self._outcomes:
            self._outcomes[system.name] = (
                self._mix(system) if isinstance(system, MixedSystem) else self._ask(system)
            )
        return self._outcomes[system.name]

    def _mix(self, system: MixedSystem) -> _Outcome:
        (first, cost), (second, other) = self.outcome(system.first), self.outcome(system.second)
        mixed = {
            query: SystemScores(system.mix(scores.order, second[query].order))
            for query, scores in first.items()
        }
        return mixed, _add(cost, other)

    def _ask(self, system: System) -> _Outcome:
        state, finished = self._open_state(system)
        if len(finished.scores) < len(self._candidates):
            system.warm_up()
            # Again, since a model that had to be downloaded has a fingerprint only now.
            state, finished = self._open_state(system)
        missing = [one for one in self._candidates if one.query_id not in finished.scores]
        scores, seconds = dict(finished.scores), finished.seconds
        for window in self._windows(system.name, missing):
            started = time.perf_counter()
            answers = _check(system, window)
            elapsed = time.perf_counter() - started
            seconds += elapsed
            answered = dict(zip((one.query_id for one in window), answers, strict=True))
            scores |= answered
            if state is not None:
                state.append(elapsed, answered)
        if isinstance(system, FirstStageSystem):
            return scores, None
        return scores, Cost(
            pairs=sum(len(one.documents) for one in self._candidates),
            seconds=seconds,
            tokens=sum_if_known(answer.tokens for answer in scores.values()),
            truncated_documents=sum_if_known(
                answer.truncated_documents for answer in scores.values()
            ),
        )

    def _open_state(self, system: System) -> tuple[StateFile | None, Finished]:
        if self._state is None or system.fingerprint is None:
            return None, Finished({}, 0.0)
        of = json.dumps([self._digest, system.fingerprint])
        path = self._state / f"{file_name(system.name)}.jsonl"
        state = StateFile(path, sha256(of.encode()).hexdigest())
        return state, state.finished

    def _windows(self, name: str, missing: list[Candidates]) -> Iterator[list[Candidates]]:
        if not missing:
            return
        from tqdm import tqdm

        done = len(self._candidates) - len(missing)
        show = self._progress and name != FIRST_STAGE
        with tqdm(
            total=len(self._candidates), initial=done, desc=name, unit="query", disable=not show
        ) as bar:
            for start in range(0, len(missing), WINDOW):
                window = missing[start : start + WINDOW]
                yield window
                bar.update(len(window))


def _check(system: System, window: list[Candidates]) -> list[SystemScores]:
    answers = system.score(window)
    for one, answer in zip(window, answers, strict=True):
        for numbers in (answer.scores, answer.order):
            if len(numbers) != len(one.documents):
                raise ScoringError(
                    f"{system.name} answered {len(numbers)} scores for the "
                    f"{len(one.documents)} documents of the query {one.query_id!r}"
                )
            if not all(map(math.isfinite, numbers)):
                raise ScoringError(
                    f"{system.name} has no number for a document of {one.query_id!r}"
                )
    return answers


def _add(first: Cost | None, second: Cost | None) -> Cost | None:
    costs = [cost for cost in (first, second) if cost is not None]
    if not costs:
        return None
    return Cost(
        pairs=costs[0].pairs,
        seconds=sum(cost.seconds for cost in costs),
        tokens=sum_if_known(cost.tokens for cost in costs),
        truncated_documents=sum_if_known(cost.truncated_documents for cost in costs),
    )


def file_name(name: str) -> str:
    """Convert a system's name to a file name that is short, plain and unique."""
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")[:60]
    # A folder's name may hold bytes that are not UTF-8.
    digest = sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return plain if plain == name else f"{plain}-{digest[:8]}"

"""Each call gets its turn and its own logits; small batches of several are computed together."""

import threading
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st
from other_process import run_python

from jina_rerank.encoders import TokenPair
from jina_rerank.scorers._pair_model import Wanted
from jina_rerank.scorers.worker import Steps, Worker

BAD = 999
"""A token that the model cannot compute."""


class Summing:
    """A model whose logits are the sums of the token ids, and which remembers its batches."""

    batch_tokens = 100

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def logits(self, pairs: Sequence[TokenPair]) -> list[float]:
        self.batches.append([len(pair) for pair in pairs])
        if any(BAD in pair.input_ids for pair in pairs):
            raise RuntimeError("cannot be computed")
        return [float(sum(pair.input_ids)) for pair in pairs]


def steps(model: Summing, *batches: list[list[int]]) -> Steps[list[float]]:
    """A job that wants the logits of one batch after another, pairs given by their token ids."""
    found: list[float] = []
    for batch in batches:
        pairs = [TokenPair(array("i", ids), array("i", [0] * len(ids))) for ids in batch]
        computed = yield Wanted(model, pairs)  # type: ignore[arg-type]
        found += computed.logits
    return found


class Held(Summing):
    """One that is at its first batch until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.computing, self.released = threading.Event(), threading.Event()

    def logits(self, pairs: Sequence[TokenPair]) -> list[float]:
        self.computing.set()
        assert self.released.wait(10)
        return super().logits(pairs)


@pytest.fixture
def worker() -> Worker:
    return Worker("test")


@pytest.fixture
def busy(worker: Worker) -> Iterator[tuple[Worker, threading.Event]]:
    """A worker that is held up until the event is set, so that jobs gather before it."""
    held = Held()
    worker.submit(lambda: steps(held, [[1]]))
    assert held.computing.wait(10)
    yield worker, held.released
    held.released.set()


def run(busy: tuple[Worker, threading.Event], jobs: list[Steps[list[float]]]) -> list[list[float]]:
    worker, released = busy
    futures = [worker.submit(lambda job=job: job) for job in jobs]  # type: ignore[misc]
    released.set()
    return [future.result(10) for future in futures]


def test_small_batches_are_computed_together_longest_first(busy) -> None:
    model = Summing()
    jobs = [steps(model, [[1, 2], [3]]), steps(model, [[4, 5, 6]]), steps(model, [[7], [8, 9]])]
    assert run(busy, jobs) == [[3.0, 3.0], [15.0], [7.0, 17.0]]
    assert model.batches == [[3, 2, 2, 1, 1]]


def test_a_batch_is_closed_once_it_is_full(busy) -> None:
    model = Summing()
    jobs = [steps(model, [[1] * 60]), steps(model, [[1] * 50]), steps(model, [[1] * 40])]
    assert run(busy, jobs) == [[60.0], [50.0], [40.0]]
    assert model.batches == [[60, 50], [40]]


def test_models_are_kept_apart(busy) -> None:
    one, other = Summing(), Summing()
    assert run(busy, [steps(one, [[1]]), steps(other, [[2]]), steps(one, [[3]])]) == [
        [1.0],
        [2.0],
        [3.0],
    ]
    assert one.batches == [[1, 1]]
    assert other.batches == [[1]]


def test_an_error_hits_only_the_one_who_caused_it(busy) -> None:
    worker, released = busy
    model = Summing()
    good = worker.submit(lambda: steps(model, [[1]]))
    bad = worker.submit(lambda: steps(model, [[BAD]]))
    other = worker.submit(lambda: steps(model, [[2]], [[3]]))
    released.set()
    assert good.result(10) == [1.0]
    assert other.result(10) == [2.0, 3.0]
    with pytest.raises(RuntimeError, match="cannot be computed"):
        bad.result(10)


def test_a_job_may_mend_what_failed(busy) -> None:
    """The error is raised where the job waits."""
    model = Summing()

    def patient() -> Steps[list[float]]:
        try:
            return (yield from steps(model, [[BAD]]))
        except RuntimeError:
            return (yield from steps(model, [[5]]))

    assert run(busy, [patient()]) == [[5.0]]


def test_one_that_was_cancelled_is_left_out(busy) -> None:
    worker, released = busy
    model = Summing()
    first: Future[list[float]] = worker.submit(lambda: steps(model, [[1]]))
    second = worker.submit(lambda: steps(model, [[2]]))
    assert first.cancel()
    released.set()
    assert second.result(10) == [2.0]
    assert model.batches == [[1]]


def endless(model: Summing, closed: threading.Event) -> Steps[None]:
    try:
        while True:
            yield from steps(model, [[1]])
    finally:
        closed.set()


def test_cancelling_a_running_job_frees_the_worker(worker: Worker) -> None:
    held, closed = Held(), threading.Event()
    future = worker.submit(lambda: endless(held, closed))
    assert held.computing.wait(10)
    held.released.set()
    assert future.cancel()
    assert closed.wait(10)
    assert worker.submit(lambda: steps(Summing(), [[7]])).result(10) == [7.0]


def test_a_cancelled_job_that_waits_is_never_started(busy) -> None:
    worker, released = busy
    started = []

    def record() -> Steps[list[float]]:
        started.append(True)
        return (yield from steps(Summing(), [[1]]))

    assert worker.submit(record).cancel()
    released.set()
    worker.submit(lambda: steps(Summing(), [[1]])).result(10)
    assert started == []


def test_a_short_job_does_not_wait_for_a_long_one(worker: Worker) -> None:
    long = worker.submit(lambda: endless(Summing(), threading.Event()))
    assert worker.submit(lambda: steps(Summing(), [[1, 2]])).result(10) == [3.0]
    assert not long.done()
    long.cancel()


def test_an_error_between_batches_reaches_its_caller_alone(worker: Worker) -> None:
    def fail() -> Steps[None]:
        yield from steps(Summing(), [[1]])
        raise KeyError("mine")

    failing: Future[None] = worker.submit(fail)
    assert worker.submit(lambda: steps(Summing(), [[4]])).result(10) == [4.0]
    with pytest.raises(KeyError, match="mine"):
        failing.result(10)


@given(
    st.lists(
        st.lists(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=30), max_size=4)),
        max_size=6,
    )
)
def test_every_call_gets_its_own_logits(calls: list[list[list[list[int]]]]) -> None:
    worker, model = Worker("test"), Summing()
    futures = [worker.submit(lambda own=own: steps(model, *own)) for own in calls]  # type: ignore[misc]
    expected = [[float(sum(pair)) for batch in own for pair in batch] for own in calls]
    assert [future.result(10) for future in futures] == expected


def test_a_call_while_the_interpreter_ends_is_an_error_and_does_not_hang() -> None:
    program = """
        import atexit
        from jina_rerank import LocalScorer, Reranker, ScoringError
        reranker = Reranker(LocalScorer(dtype="float32"))
        def late():
            try:
                reranker.rank("q", ["a"])
            except ScoringError as error:
                print(error)
            reranker.close()
        atexit.register(late)
        reranker.rank("q", ["a"])
    """
    done = run_python(program)
    assert (done.returncode, done.stderr) == (0, "")
    assert "the interpreter is ending" in done.stdout

"""The bound on work, and the time after which there is room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jina_rerank import ScoreRequest
from jina_rerank.server.admission import Queue, estimate_tokens
from jina_rerank.server.refusals import TooManyRequests


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def work(queue: Queue, clock: Clock, tokens: int, seconds: float) -> None:
    with queue.place(tokens):
        clock.now += seconds


def refused(queue: Queue, tokens: int) -> float | None:
    with pytest.raises(TooManyRequests) as error, queue.place(tokens):
        pass
    return error.value.retry_after


def test_it_is_bounded_by_tokens() -> None:
    queue = Queue(100)
    with queue.place(60), queue.place(40):
        assert refused(queue, 1) == 1.0  # nothing is known of the speed
        assert (queue.requests, queue.tokens) == (2, 100)
    assert (queue.requests, queue.tokens) == (0, 0)


def test_one_alone_may_be_larger() -> None:
    queue = Queue(100)
    with queue.place(1000):
        refused(queue, 1)


def test_the_wait_is_the_time_for_what_is_too_much() -> None:
    clock = Clock()
    queue = Queue(1000, clock)
    work(queue, clock, tokens=500, seconds=5)  # 100 a second
    assert queue.tokens_per_second == pytest.approx(100)
    with queue.place(900):
        assert refused(queue, 600) == 5  # 500 too many
        assert refused(queue, 1500) == 9  # all that is there
        assert refused(queue, 101) == 1


def test_time_without_work_does_not_count() -> None:
    clock = Clock()
    queue = Queue(1000, clock)
    work(queue, clock, tokens=500, seconds=5)
    clock.now += 1000
    work(queue, clock, tokens=500, seconds=5)
    assert queue.tokens_per_second == pytest.approx(100)


def test_the_speed_is_that_of_late() -> None:
    clock = Clock()
    queue = Queue(1000, clock)
    work(queue, clock, tokens=1000, seconds=1)
    for _ in range(20):
        work(queue, clock, tokens=100, seconds=10)
    assert queue.tokens_per_second == pytest.approx(10, rel=0.01)


def test_work_that_failed_is_no_speed() -> None:
    clock = Clock()
    queue = Queue(1000, clock)
    with pytest.raises(ValueError, match="failed"), queue.place(500):
        raise ValueError("failed")
    assert queue.tokens == 0
    assert queue.tokens_per_second is None


def test_the_wait_has_an_end() -> None:
    clock = Clock()
    queue = Queue(1000, clock)
    work(queue, clock, tokens=1, seconds=100)
    with queue.place(1000):
        assert refused(queue, 1000) == 60


@given(st.text(), st.lists(st.text(), max_size=5), st.integers(16, 64))
def test_an_estimate_is_bounded_by_what_the_model_reads(
    query: str, documents: list[str], max_length: int
) -> None:
    tokens = estimate_tokens(ScoreRequest(query, documents), max_length)
    assert len(documents) <= tokens <= max_length * len(documents)


def test_an_estimate_is_near_english_and_chinese() -> None:
    english = "The giant panda is a bear species that is endemic to the mountains of China. " * 10
    assert 150 < estimate_tokens(ScoreRequest("", [english]), 8192) < 250
    chinese = ScoreRequest("", ["熊猫" * 100])
    assert estimate_tokens(chinese, 8192) == pytest.approx(154, abs=2)


def test_an_estimate_counts_every_window_of_a_long_document() -> None:
    long = ["panda bear " * 9000] * 3
    assert estimate_tokens(ScoreRequest("panda", long), 64) == 3 * 64
    in_windows = estimate_tokens(ScoreRequest("panda", long, long_documents="chunk"), 64)
    # Windows overlap by a quarter, and each has the query and the special tokens.
    assert 3 * 11 * 9000 / 4 * 4 / 3 < in_windows < 3 * 11 * 9000 / 4 * 2
    short = ["a bear"]
    assert estimate_tokens(
        ScoreRequest("panda", short, long_documents="chunk"), 64
    ) == estimate_tokens(ScoreRequest("panda", short), 64)


def test_an_estimate_counts_no_tokens_that_the_request_leaves_out() -> None:
    documents = ["panda bear " * 1000] * 10
    whole = estimate_tokens(ScoreRequest("panda", documents), 8192)
    limited = estimate_tokens(ScoreRequest("panda", documents, max_document_tokens=8), 8192)
    assert whole > 20_000
    assert limited == 10 * 14  # 8 of the document, 2 of the query, 4 special ones

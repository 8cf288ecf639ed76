"""One piece of work is prepared while another is computed, and a scorer keeps its ways with it."""

import asyncio
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jina_rerank import InputError, LocalScorer, Progress, Reranker, ScoreRequest
from jina_rerank.scorers._ahead import one_ahead
from jina_rerank.scorers._pairs import CHARACTERS_PER_WINDOW

QUERY = "what is panda?"


def threads_ahead() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "jina-rerank-ahead"]


@given(st.lists(st.integers()))
def test_all_are_prepared_in_order(items: list[int]) -> None:
    assert list(one_ahead(lambda item: item + 1, items)) == [item + 1 for item in items]
    assert threads_ahead() == []


def test_one_is_prepared_beside_the_caller_and_no_more() -> None:
    begun = [threading.Event() for _ in range(4)]

    def prepare(number: int) -> int:
        begun[number].set()
        return number

    ahead = one_ahead(prepare, range(4))
    assert next(ahead) == 0
    assert begun[1].wait(10)
    # The thread that prepared it is at its end, so nobody is there who could begin another.
    for thread in threads_ahead():
        thread.join(10)
    assert not begun[2].is_set()
    assert list(ahead) == [1, 2, 3]


def test_a_single_one_takes_no_thread() -> None:
    assert list(one_ahead(lambda _: threading.current_thread(), [1])) == [
        threading.current_thread()
    ]
    first, second = one_ahead(lambda _: threading.current_thread(), [1, 2])
    assert first is threading.current_thread()
    assert second is not first


def test_an_error_comes_when_its_turn_has_come() -> None:
    ahead = one_ahead(lambda item: 6 // item, [3, 2, 0, 1])
    assert [next(ahead), next(ahead)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(ahead)
    assert list(ahead) == []
    assert threads_ahead() == []


def test_closing_waits_for_the_thread() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def prepare(item: int) -> int:
        if item:
            begun.set()
            assert go_on.wait(10)
        return item

    ahead = one_ahead(prepare, range(3))
    assert next(ahead) == 0
    assert begun.wait(10)
    closing = threading.Thread(target=ahead.close)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()
    go_on.set()
    closing.join(10)
    assert not closing.is_alive()
    assert threads_ahead() == []


DOCUMENTS = [f"panda {i} " + "bear " * (i % 20) for i in range(CHARACTERS_PER_WINDOW // 50)]
"""Documents of some three windows."""


def test_windows_are_as_good_as_one(small_checkpoint: Path) -> None:
    scorer = LocalScorer(small_checkpoint, dtype="float32")
    told: list[Progress] = []
    (response,) = scorer.score([ScoreRequest(QUERY, DOCUMENTS)], told.append)
    assert len(told) > 2
    assert told[-1] == Progress(response.usage.tokens, 0)
    # In one window each, a slice from every part of the list.
    for start in range(0, len(DOCUMENTS), 1000):
        part = Reranker(scorer).score(QUERY, DOCUMENTS[start : start + 100])
        assert response.scores[start : start + 100] == pytest.approx(part, abs=1e-5)
    assert threads_ahead() == []


def test_what_comes_before_a_refused_document_is_scored(small_checkpoint: Path) -> None:
    scorer = LocalScorer(small_checkpoint, dtype="float32", max_length=64, long_documents="error")
    # Few characters, so that it comes last, and many tokens.
    short, refused = "panda bear " * 8, "q7" * 40
    documents = [short] * (CHARACTERS_PER_WINDOW // 80) + [refused] * 2
    told: list[Progress] = []
    with pytest.raises(InputError, match="tokens and") as caught:
        scorer.score([ScoreRequest(QUERY, documents)], told.append)
    assert caught.value.argument == f"documents[{len(documents) - 2}]"
    assert told[-1].tokens > 0
    assert told[-1].remaining_tokens > 0
    assert threads_ahead() == []


async def test_cancelling_leaves_no_thread_behind(small_checkpoint: Path) -> None:
    scorer = LocalScorer(small_checkpoint, dtype="float32", max_length=32)
    loop, scored = asyncio.get_running_loop(), asyncio.Event()
    # One document fills a window: nearly all time goes into tokenizing the next one.
    documents = ["paris is the capital " * 30_000] * 20
    task = asyncio.create_task(
        scorer.ascore(
            [ScoreRequest(QUERY, documents)], lambda _: loop.call_soon_threadsafe(scored.set)
        )
    )
    await scored.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # The worker serves no other call before it has dropped this one.
    await Reranker(scorer).arank(QUERY, ["a bear"])
    assert threads_ahead() == []

"""`CachedScorer`: answers as without it, each pair computed once, and no trouble of its own."""

import asyncio
import contextlib
import gc
import logging
import math
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from scorers.test_async import LAG_SECONDS, best_lag

from jina_rerank import (
    CachedScorer,
    ConfigurationError,
    CrossEncoderScorer,
    FallbackScorer,
    InputError,
    LocalScorer,
    Reranker,
    RetrievalOrder,
    ScoreRequest,
    ScoreResponse,
    ScoringError,
    Usage,
)
from jina_rerank.scorers import _score_store
from jina_rerank.scorers.base import CacheableScorer
from jina_rerank.testing import FakeScorer

QUERY = "what is panda?"
DOCUMENTS = ["a bear of china", "what a panda is", "panda", "", "the capital of france"]


class Detailed(FakeScorer):
    """Fills the columns named in `columns`, each by the texts of the pair alone."""

    def __init__(self, columns: Sequence[str] = ("logits", "tokens", "truncated_tokens")) -> None:
        super().__init__(lambda query, document: len(query) + len(document) / 7)
        self.columns = columns

    def score(self, requests, on_scored=None):
        responses = super().score(requests, on_scored)
        return [self._detailed(*both) for both in zip(requests, responses, strict=True)]

    def _detailed(self, request: ScoreRequest, response: ScoreResponse) -> ScoreResponse:
        lengths = [len(document) for document in request.documents]
        columns = {
            "logits": [length / 3 for length in lengths],
            "tokens": lengths,
            "truncated_tokens": [max(0, length - 2) for length in lengths],
        }
        cut = sum(length > 2 for length in lengths) if "truncated_tokens" in self.columns else None
        usage = Usage(len(lengths), sum(lengths), cut, len(request.query) - 1)
        return replace(response, usage=usage, **{name: columns[name] for name in self.columns})


class Scripted(FakeScorer):
    """Changes its answers as told."""

    change: Callable[[ScoreRequest, ScoreResponse], ScoreResponse]

    def __init__(self, change: Callable[[ScoreRequest, ScoreResponse], ScoreResponse]) -> None:
        super().__init__(lambda query, document: float(len(document)))
        self.change = change

    def score(self, requests, on_scored=None):
        responses = super().score(requests, on_scored)
        return [self.change(*both) for both in zip(requests, responses, strict=True)]


def by_length(**settings: str | bool) -> FakeScorer:
    return FakeScorer(lambda query, document: float(len(document)), **settings)


def ask(scorer: CachedScorer, *documents: str, query: str = QUERY) -> ScoreResponse:
    (response,) = scorer.score([ScoreRequest(query, list(documents))])
    return response


def pairs(requests: Sequence[ScoreRequest]) -> list[tuple[str, str]]:
    return [(request.query, document) for request in requests for document in request.documents]


def rows_in(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM scores").fetchone()[0]


requests_strategy = st.builds(
    ScoreRequest,
    query=st.sampled_from(["q", "qq", "qqq"]),
    documents=st.lists(st.sampled_from(["", "a", "bb", "ccc", "dddd", "\u00e9", "a" * 5000])),
)
calls_strategy = st.lists(st.lists(requests_strategy, max_size=4), max_size=6)
columns_strategy = st.sets(st.sampled_from(["logits", "tokens", "truncated_tokens"]))


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_answers_are_those_of_the_scorer_and_no_pair_is_computed_twice(way, on_disk) -> None:
    @given(calls_strategy, columns_strategy)
    def check(calls, columns) -> None:
        with tempfile.TemporaryDirectory() as folder:
            fake, plain = Detailed(sorted(columns)), Detailed(sorted(columns))
            cached = CachedScorer(fake, path=f"{folder}/scores" if on_disk else None)
            for requests in calls:
                before = len(fake.requests)
                if way == "sync":
                    answers = cached.score(requests)
                else:
                    answers = asyncio.run(cached.ascore(requests))
                sent = pairs(fake.requests[before:])
                expected = plain.score(requests)
                assert [contents(answer) for answer in answers] == [
                    contents(response) for response in expected
                ]
                counted = [answer.usage for answer in answers]
                assert sum(usage.tokens or 0 for usage in counted) == sum(len(d) for _, d in sent)
                hits = sum(usage.cached_documents or 0 for usage in counted)
                assert hits + len(sent) == len(pairs(requests))
            assert max(Counter(pairs(fake.requests)).values(), default=1) == 1
            cached.close()

    check()


def contents(response: ScoreResponse) -> dict[str, object]:
    """What must be the same with a cache as without, where nothing is asked of no documents."""
    columns = (response.scores, response.logits, response.tokens, response.truncated_tokens)
    if not response.scores:
        return {}
    return {
        "columns": [None if column is None else list(column) for column in columns],
        "usage": replace(response.usage, tokens=None, cached_documents=None)
        if response.truncated_tokens is not None
        else response.usage.truncated_query_tokens,
    }


def test_a_call_sends_what_it_lacks_at_once_and_only_once() -> None:
    fake = Detailed()
    calls: list[int] = []
    original = fake.score
    fake.score = lambda requests, on_scored=None: (  # type: ignore[method-assign]
        calls.append(len(requests)) or original(requests, on_scored)
    )
    cached = CachedScorer(fake)
    ask(cached, "a", "bb")
    progress: list[int] = []
    first, second, third = cached.score(
        [
            ScoreRequest(QUERY, ["bb", "ccc", "a", "ccc"]),
            ScoreRequest(QUERY, ["a", "bb"]),
            ScoreRequest("another", ["a", "ccc", "a"], "pairs[2]."),
        ],
        progress.append,
    )
    assert calls == [1, 2]
    assert fake.requests[1:] == [
        ScoreRequest(QUERY, ["ccc"]),
        ScoreRequest("another", ["a", "ccc"], "pairs[2]."),
    ]
    assert [len(first.scores), len(second.scores), len(third.scores)] == [4, 2, 3]
    assert first.usage == Usage(4, 3, 2, len(QUERY) - 1, cached_documents=3)
    assert second.usage == Usage(2, 0, 0, len(QUERY) - 1, cached_documents=2)
    assert third.usage == Usage(3, 4, 1, len("another") - 1, cached_documents=1)
    assert sum(progress) == 9


def test_tokens_are_unknown_where_the_scorer_does_not_count_them_and_0_where_it_was_not_asked() -> (
    None
):
    cached = CachedScorer(by_length())
    assert ask(cached, "a").usage == Usage(1, None, None, None, cached_documents=0)
    assert ask(cached, "a", "b").usage == Usage(2, None, None, None, cached_documents=1)
    assert ask(cached, "a", "b").usage == Usage(2, 0, None, None, cached_documents=2)


def test_texts_that_run_together_the_same_are_different_pairs() -> None:
    seen = CachedScorer(by_length())
    ask(seen, "c", query="ab")
    assert ask(seen, "bc", query="a").usage.cached_documents == 0
    assert ask(seen, "", query="abc").usage.cached_documents == 0
    assert ask(seen, "ab", query="c").usage.cached_documents == 0
    assert ask(seen, "\ud800", query="ab").usage.cached_documents == 0  # as a scorer may be called
    assert ask(seen, "c", query="ab").usage.cached_documents == 1


def test_fingerprint_and_model_are_part_of_the_key(tmp_path: Path) -> None:
    class Named(FakeScorer):
        model = "fak"

    path = tmp_path / "scores"
    ask(CachedScorer(by_length(), path=path), "a")
    for other in (by_length(fingerprint="another"), Named(fingerprint="efake")):
        assert ask(CachedScorer(other, path=path), "a").usage.cached_documents == 0
    assert ask(CachedScorer(by_length(), path=path), "a").usage.cached_documents == 1


def test_numbers_come_back_to_the_last_bit(tmp_path: Path) -> None:
    values = [0.1, 1 / 3, 5e-324, -1.7976931348623157e308, 1e16 + 2, 0.9999999999999999]
    fake = FakeScorer(lambda query, document: values[int(document)])
    documents = [str(i) for i in range(len(values))]
    for path in (None, tmp_path / "scores"):
        cached = CachedScorer(fake, path=path)
        ask(cached, *documents)
        again = ask(cached, *documents)
        assert again.usage.cached_documents == len(values)
        assert list(again.scores) == values


# What is kept and what is not


def test_a_degraded_answer_is_passed_on_and_not_kept() -> None:
    fake = FakeScorer(degraded="tired")
    cached = CachedScorer(fake)
    for _ in range(2):
        answer = ask(cached, "a", "b")
        assert answer.degraded == "tired"
        assert answer.usage.cached_documents == 0
    assert len(fake.requests) == 2


@pytest.mark.parametrize(
    "other", [{"degraded": "tired"}, {"model": "another"}], ids=["degraded", "another model"]
)
def test_scores_that_cannot_be_compared_never_meet(other: dict[str, str]) -> None:
    fake = Scripted(lambda request, response: response)
    cached = CachedScorer(fake)
    ask(cached, "a", "bb")
    fake.change = lambda request, response: replace(
        response, scores=[-score for score in response.scores], **other
    )
    mixed, known = cached.score(
        [ScoreRequest(QUERY, ["a", "ccc", "bb"]), ScoreRequest(QUERY, ["bb", "a"])]
    )
    assert list(mixed.scores) == [-1, -3, -2]
    assert (mixed.degraded, mixed.model) == (other.get("degraded"), other.get("model"))
    assert mixed.usage.cached_documents == 0
    assert list(known.scores) == [2, 1]
    assert known.degraded is None
    fake.change = lambda request, response: response
    assert ask(cached, "ccc").usage.cached_documents == 0


def test_a_partial_answer_keeps_its_cached_scores_and_is_not_kept() -> None:
    fake = Scripted(lambda request, response: response)
    cached = CachedScorer(fake)
    ask(cached, "a", "bb")
    fake.change = lambda request, response: replace(
        response, scores=[3.0, 0.0], degraded="1 of 2 was not scored", unscored=(1,)
    )
    answer = ask(cached, "dddd", "a", "eeeee", "dddd", "bb")
    # The unscored take the fifth's place, whatever their number among those that were sent.
    assert fake.requests[-1].documents == ["dddd", "eeeee"]
    assert list(answer.scores)[:2] == [3.0, 1.0]
    assert answer.unscored == (2,)
    assert answer.degraded == "1 of 2 was not scored"
    assert answer.scores[2] < min(answer.scores[i] for i in (0, 1, 3, 4))
    assert answer.usage == Usage(4, None, cached_documents=3)
    fake.change = lambda request, response: response
    assert ask(cached, "dddd", "eeeee", "a").usage.cached_documents == 1


def test_a_score_that_is_no_number_is_not_kept_and_named_by_its_own_place() -> None:
    fake = FakeScorer(lambda query, document: math.nan if document == "bad" else 1.0)
    reranker = Reranker(CachedScorer(fake))
    reranker.rank(QUERY, ["good"])
    for _ in range(2):
        with pytest.raises(ScoringError, match=r"documents\[1\] as nan"):
            reranker.rank(QUERY, ["good", "bad"])
    assert pairs(fake.requests) == [(QUERY, "good"), (QUERY, "bad"), (QUERY, "bad")]


def test_wrong_numbers_of_answers_are_errors_as_without() -> None:
    short = Scripted(lambda request, response: replace(response, scores=response.scores[:-1]))
    with pytest.raises(ScoringError, match="1 scores for 2 documents"):
        Reranker(CachedScorer(short)).rank(QUERY, ["a", "b"])
    none = by_length()
    none.score = lambda requests, on_scored=None: []  # type: ignore[method-assign]
    with pytest.raises(ScoringError, match="0 of 1 requests"):
        Reranker(CachedScorer(none)).rank(QUERY, ["a", "b"])


def test_an_input_error_names_the_document_by_its_own_place(small_checkpoint: Path) -> None:
    scorer = LocalScorer(small_checkpoint, max_length=32, long_documents="error")
    with Reranker(CachedScorer(scorer)) as reranker:
        reranker.rank(QUERY, ["a bear", "a panda"])
        pair = (QUERY, ["a bear", "a panda", "paris " * 99])
        with pytest.raises(InputError) as caught:
            reranker.rank_many([(QUERY, ["paris"]), pair])
        assert caught.value.argument == "pairs[1].documents[2]"
        with pytest.raises(InputError) as caught:
            asyncio.run(reranker.arank_many([pair]))
        assert caught.value.argument == "pairs[0].documents[2]"


# Listwise


def test_a_listwise_score_is_kept_for_the_whole_list_only() -> None:
    fake = by_length(listwise=True)
    cached = CachedScorer(fake)
    asked = [["a", "bb"], ["bb", "a"], ["a"], ["a", "bb", "bb"], ["abb"]]
    for documents in asked:
        assert ask(cached, *documents).usage.cached_documents == 0
    for documents in asked:
        answer = ask(cached, *documents)
        assert answer.usage.cached_documents == len(documents)
        assert list(answer.scores) == [len(document) for document in documents]
    assert [request.documents for request in fake.requests] == asked


def test_a_list_of_which_a_part_was_dropped_is_sent_whole() -> None:
    fake = by_length(listwise=True)
    cached = CachedScorer(fake, max_entries=4)
    ask(cached, "a", "bb", "ccc")
    ask(cached, "x", "yy")
    answer = ask(cached, "a", "bb", "ccc")
    assert fake.requests[-1].documents == ["a", "bb", "ccc"]
    assert list(answer.scores) == [1, 2, 3]
    assert answer.usage.cached_documents == 0


def test_a_document_that_is_in_a_list_twice_may_have_two_scores() -> None:
    fake = Scripted(lambda request, response: replace(response, scores=[2.0, 1.0]))
    fake.listwise = True
    cached = CachedScorer(fake)
    assert list(ask(cached, "a", "a").scores) == [2, 1]
    known = ask(cached, "a", "a")
    assert known.usage.cached_documents == 2
    assert list(known.scores) == [2, 1]


def test_two_equal_lists_in_one_call_are_computed_once() -> None:
    fake = by_length(listwise=True)
    first, second = CachedScorer(fake).score([ScoreRequest(QUERY, ["a", "a"])] * 2)
    assert len(fake.requests) == 1
    assert (first.scores, second.scores) == ([1, 1], [1, 1])
    assert (first.usage.cached_documents, second.usage.cached_documents) == (0, 2)


# The bound


@given(
    st.integers(1, 12),
    st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True), max_size=12),
)
def test_the_bound_holds_and_what_was_used_lately_is_there(bound: int, calls) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores"
        fake = by_length()
        cached = CachedScorer(fake, path=path, max_entries=bound)
        so_far: list[set[str]] = []
        for numbers in calls:
            documents = [str(number) for number in numbers]
            before = len(fake.requests)
            ask(cached, *documents)
            assert rows_in(path) <= bound
            for _, document in pairs(fake.requests[before:]):
                if any(document in used for used in so_far):
                    last = max(i for i, used in enumerate(so_far) if document in used)
                    others = set().union(*so_far[last:]) - {document}
                    assert len(others) > bound // 2
            so_far.append(set(documents))
        cached.close()


def test_more_than_the_bound_in_one_call(tmp_path: Path) -> None:
    cached = CachedScorer(by_length(), path=tmp_path / "scores", max_entries=700)
    documents = [f"number {i}" for i in range(3000)]
    assert list(ask(cached, *documents).scores) == [len(document) for document in documents]
    assert rows_in(tmp_path / "scores") == 700
    assert ask(cached, *documents[-700:]).usage.cached_documents == 700


def test_a_file_that_holds_more_is_cut_to_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "scores"
    with Reranker(CachedScorer(by_length(), path=path)) as reranker:
        reranker.rank(QUERY, [f"number {i}" for i in range(50)])
    smaller = CachedScorer(by_length(), path=path, max_entries=10)
    smaller.warm_up()
    assert rows_in(path) == 10
    assert ask(smaller, "number 49", "number 39").usage.cached_documents == 1


def test_a_pair_in_constant_use_outlives_any_number_of_others() -> None:
    fake = by_length()
    cached = CachedScorer(fake, max_entries=100)
    for i in range(1000):
        ask(cached, "favourite", f"number {i}")
    assert Counter(pairs(fake.requests))[QUERY, "favourite"] == 1


# Threads, processes, forks, pickles


@pytest.mark.parametrize("on_disk", [False, True])
def test_threads(on_disk: bool, tmp_path: Path) -> None:
    fake = by_length()
    cached = CachedScorer(fake, path=tmp_path / "scores" if on_disk else None)
    start = threading.Barrier(8)

    def work(seed: int) -> tuple[int, int]:
        start.wait(30)
        documents = hits = 0
        for i in range(60):
            texts = ["x" * ((seed + i * step) % 50) for step in range(1, 8)]
            answer = ask(cached, *texts)
            assert list(answer.scores) == [len(text) for text in texts]
            documents += answer.usage.documents
            hits += answer.usage.cached_documents or 0
        return documents, hits

    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(work, range(8)))
    assert sum(documents for documents, _ in counts) == 8 * 60 * 7
    assert sum(hits for _, hits in counts) + len(pairs(fake.requests)) == 8 * 60 * 7
    assert len(pairs(fake.requests)) < 8 * 50 + 1
    cached.close()


CHILD = """
import logging, sys
from jina_rerank import CachedScorer, ScoreRequest
from jina_rerank.testing import FakeScorer

logging.basicConfig(stream=sys.stdout)
fake = FakeScorer(lambda query, document: float(len(document)))
cached = CachedScorer(fake, path=sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for i in range(100):
    texts = ["x" * ((i * step) % 97) for step in range(1, 12)]
    (answer,) = cached.score([ScoreRequest("q", texts)])
    assert list(answer.scores) == [len(text) for text in texts]
print(sum(len(request.documents) for request in fake.requests))
"""


def test_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "scores"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    # All make the file at the same time.
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    printed = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert all(output.strip().isdecimal() for output in printed), printed
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert rows_in(path) == 97
    here = CachedScorer(by_length(), path=path)
    assert ask(here, *("x" * i for i in range(97)), query="q").usage.cached_documents == 97


def run_in_fork(work: Callable[[], object]) -> None:
    """Fails if it fails there, or hangs."""
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            work()
            os._exit(0)
        except BaseException:
            logging.getLogger(__name__).exception("in the child")
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@needs_fork
def test_fork(tmp_path: Path) -> None:
    path = tmp_path / "scores"
    on_disk, in_memory = CachedScorer(by_length(), path=path), CachedScorer(by_length())
    ask(on_disk, "a")
    ask(in_memory, "a")
    assert is_open(path)

    def work() -> None:
        assert not is_open(path)
        assert ask(on_disk, "a", "bb").usage.cached_documents == 1
        assert ask(in_memory, "a", "bb").usage.cached_documents == 0
        assert ask(in_memory, "a", "bb").usage.cached_documents == 2

    run_in_fork(work)
    assert ask(on_disk, "a", "bb").usage.cached_documents == 2
    assert ask(in_memory, "a", "bb").usage.cached_documents == 1


def is_open(path: Path) -> bool:
    """Whether this process has it open."""
    inode = path.stat().st_ino
    for descriptor in range(3, 256):
        with contextlib.suppress(OSError):
            if os.fstat(descriptor).st_ino == inode:
                return True
    return False


@needs_fork
def test_fork_while_threads_use_it(tmp_path: Path) -> None:
    scorers = [CachedScorer(by_length(), path=tmp_path / "scores"), CachedScorer(by_length())]
    stop = threading.Event()

    def use(scorer: CachedScorer) -> int:
        calls = 0
        while not stop.is_set():
            ask(scorer, *("x" * ((calls * step) % 60) for step in range(9)))
            calls += 1
        return calls

    def work() -> None:
        for scorer in scorers:
            assert list(ask(scorer, "x", "xx", "new").scores) == [1, 2, 3]

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(use, scorer) for scorer in scorers * 2]
        try:
            for _ in range(10):
                run_in_fork(work)
        finally:
            stop.set()
        assert all(future.result(60) for future in running)
    for scorer in scorers:
        scorer.close()


@pytest.mark.parametrize("on_disk", [False, True])
def test_pickle(on_disk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scorer = CachedScorer(LocalScorer(), path="scores" if on_disk else None, max_entries=7)
    copy = pickle.loads(pickle.dumps(scorer))
    assert repr(copy) == repr(scorer)
    # A fake, since the function of one in use here cannot be pickled.
    scorer = CachedScorer(FakeScorer(), path="scores" if on_disk else None)
    expected = ask(scorer, "panda", "a bear")
    monkeypatch.chdir("/")
    copy = pickle.loads(pickle.dumps(scorer))
    answer = ask(copy, "panda", "a bear")
    assert answer.usage.cached_documents == (2 if on_disk else 0)
    assert answer.scores == expected.scores
    scorer.close()
    with pytest.raises(ConfigurationError, match="closed"):
        ask(pickle.loads(pickle.dumps(scorer)), "panda")


# Files that cannot be used, and disks that fail


def other_database(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")


def other_version(path: Path) -> None:
    with Reranker(CachedScorer(by_length(), path=path)) as reranker:
        reranker.rank(QUERY, ["a"])
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("Dear diary, " * 99), "cannot be used.*not a database"),
        (lambda path: path.write_text("Dear diary"), "cannot be used.*not a database"),
        (lambda path: path.mkdir(), "cannot be used.*unable to open.*name a file"),
        (other_database, "something else; name another file"),
        (other_version, "schema version 2.*reads 1; name another file, or delete"),
    ],
    ids=["text", "short text", "folder", "another database", "another version"],
)
def test_a_file_that_cannot_be_used(make, message: str, tmp_path: Path) -> None:
    path = tmp_path / "scores"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    scorer = CachedScorer(by_length(), path=path)
    for use in (scorer.warm_up, lambda: ask(scorer, "a"), lambda: asyncio.run(scorer.awarm_up())):
        with pytest.raises(ConfigurationError, match=message) as caught:
            use()
        assert str(path) in str(caught.value)
    scorer.close()
    assert before is None or path.read_bytes() == before


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    scorer = CachedScorer(by_length(), path=tmp_path / "no" / "scores")
    with pytest.raises(ConfigurationError, match="in a folder that exists"):
        scorer.warm_up()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def test_a_file_that_is_locked_too_long_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_score_store, "BUSY_SECONDS", 0.05)
    path = tmp_path / "scores"
    cached = CachedScorer(by_length(), path=path)
    ask(cached, "a")
    with locked(path):
        assert list(ask(cached, "a", "a secret").scores) == [1, 8]
        assert ask(cached, "a", "a secret").usage.cached_documents == 0  # it is left alone
        monkeypatch.setattr(_score_store, "REST_SECONDS", 0.0)
        cached = pickle.loads(pickle.dumps(CachedScorer(FakeScorer(), path=path)))
        for _ in range(3):
            ask(cached, "a secret")
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert str(path) in caplog.text
    assert "locked" in caplog.text
    assert "secret" not in caplog.text
    assert QUERY not in caplog.text
    # It is tried again, and a new failure is a new warning.
    ask(cached, "a secret")
    assert ask(cached, "a secret").usage.cached_documents == 1
    with locked(path):
        ask(cached, "another")
    assert len(caplog.records) == 3
    cached.close()


def test_a_file_that_is_spoilt_meanwhile_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_score_store, "REST_SECONDS", 0.0)
    path = tmp_path / "scores"
    documents = [f"number {i}" for i in range(2000)]
    with Reranker(CachedScorer(by_length(), path=path)) as reranker:
        reranker.rank(QUERY, documents)
    size = path.stat().st_size
    cached = CachedScorer(by_length(), path=path)
    cached.warm_up()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    assert list(ask(cached, *documents).scores) == [len(document) for document in documents]
    assert "malformed" in caplog.text
    # Nor does it fail when it cannot even be opened any more.
    path.write_bytes(b"Dear diary, " * 99)
    for _ in range(3):
        assert list(ask(cached, "a", "bb").scores) == [1, 2]


FULL = """
import logging, resource, sys
from jina_rerank import CachedScorer, ScoreRequest
from jina_rerank.testing import FakeScorer

logging.basicConfig(stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
cached = CachedScorer(FakeScorer(lambda query, document: float(len(document))), path=sys.argv[1])
for i in range(40):
    texts = [f"secret {i} {j}" for j in range(200)]
    (answer,) = cached.score([ScoreRequest("q", texts)])
    assert list(answer.scores) == [len(text) for text in texts]
cached.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_full_disk_is_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path / "scores"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("WARNING") == 1
    assert "secret" not in done.stdout
    # What was kept before is there, and no more.
    kept = CachedScorer(by_length(), path=tmp_path / "scores")
    first = ask(kept, *(f"secret 0 {j}" for j in range(200)), query="q")
    assert first.usage.cached_documents == 200


def test_no_text_is_stored(tmp_path: Path) -> None:
    cached = CachedScorer(by_length(), path=tmp_path / "scores")
    ask(cached, "the document's secret", query="the query's secret")
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert len(stored) > 4096
    for word in (b"secret", b"document", b"query", b"fake"):
        assert word not in stored


# Settings and lifecycle


def test_which_scorers_can_be_cached() -> None:
    assert isinstance(LocalScorer(), CacheableScorer)
    assert isinstance(CrossEncoderScorer("x/y"), CacheableScorer)
    assert isinstance(FakeScorer(), CacheableScorer)
    falling_back = FallbackScorer(LocalScorer(), RetrievalOrder())
    for scorer in (falling_back, RetrievalOrder(), CachedScorer(FakeScorer()), "turbo"):
        with pytest.raises(ConfigurationError, match=r"CachedScorer\(first\)"):
            CachedScorer(scorer)
    inside = Reranker(FallbackScorer(CachedScorer(FakeScorer()), RetrievalOrder()))
    inside.rank(QUERY, ["panda"])
    assert inside.rank(QUERY, ["panda"]).usage.cached_documents == 1


@pytest.mark.parametrize(
    "settings",
    [{"max_entries": n} for n in (0, -1, True, 1.5, None)]
    + [{"path": p} for p in ("", ":memory:", 3)],
)
def test_settings_out_of_range(settings) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        CachedScorer(FakeScorer(), **settings)


def files_in(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


async def test_lifecycle(tmp_path: Path) -> None:
    fake = by_length()
    cached = CachedScorer(fake, path=tmp_path / "scores")
    assert files_in(tmp_path) == []
    cached.warm_up()
    await cached.awarm_up()
    assert "scores" in files_in(tmp_path)
    assert fake.warm_ups == 2
    for _ in range(2):
        cached.close()
        await cached.aclose()
    assert fake.closed
    assert files_in(tmp_path) == ["scores"]
    for use in (cached.warm_up, lambda: ask(cached, "a"), lambda: cached.score([])):
        with pytest.raises(ConfigurationError, match="closed; make a new one"):
            use()
    for use in (cached.awarm_up, lambda: cached.ascore([])):
        with pytest.raises(ConfigurationError, match="closed; make a new one"):
            await use()


def test_closing_during_a_call_does_not_fail_it() -> None:
    def score(query: str, document: str) -> float:
        cached.close()
        return 1.0

    cached = CachedScorer(FakeScorer(score))
    assert list(ask(cached, "a").scores) == [1.0]


def test_importing_it_does_not_load_sqlite() -> None:
    code = "import sys, jina_rerank; jina_rerank.CachedScorer; print('sqlite3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# Async


class Instant(FakeScorer):
    async def ascore(self, requests, on_scored=None):
        return await asyncio.to_thread(self.score, requests, on_scored)


@pytest.mark.parametrize("on_disk", [False, True])
async def test_loop_stays_free_with_20_000_documents(on_disk: bool, tmp_path: Path) -> None:
    cached = CachedScorer(
        Instant(lambda query, document: 0.5), path=tmp_path / "scores" if on_disk else None
    )
    queries = iter(range(10))
    documents = [f"caf\u00e9 {i}" for i in range(20_000)]

    async def miss() -> None:
        await cached.ascore([ScoreRequest(f"number {next(queries)}", documents)])

    async def hit() -> None:
        (answer,) = await cached.ascore([ScoreRequest("number 0", documents)])
        assert answer.usage.cached_documents == 20_000

    assert await best_lag(miss) < LAG_SECONDS
    assert await best_lag(hit) < LAG_SECONDS


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_garbage_collector_has_nothing_to_do(on_disk: bool, tmp_path: Path) -> None:
    """It stops all threads: 0.2 s for 100,000 documents, when each was a tuple of its own."""
    cached = CachedScorer(by_length(), path=tmp_path / "scores" if on_disk else None)
    runs: list[str] = []

    def count(phase: str, info: dict[str, int]) -> None:
        runs.append(phase)

    gc.callbacks.append(count)
    try:
        for _ in range(2):
            ask(cached, *map(str, range(20_000)))
    finally:
        gc.callbacks.remove(count)
    assert len(runs) < 10
    cached.close()


async def test_loop_stays_free_while_the_file_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_score_store, "BUSY_SECONDS", 0.3)
    monkeypatch.setattr(_score_store, "REST_SECONDS", 0.0)
    cached = CachedScorer(Instant(), path=tmp_path / "scores")
    await cached.awarm_up()
    with locked(tmp_path / "scores"):
        request = ScoreRequest(QUERY, ["panda"])
        assert await best_lag(lambda: cached.ascore([request])) < LAG_SECONDS
    await cached.aclose()


# Real models


def test_the_embedded_model_ranks_the_same_hit_or_miss(tmp_path: Path) -> None:
    path = tmp_path / "scores"
    plain = Reranker().rank(QUERY, DOCUMENTS)
    with Reranker(CachedScorer(LocalScorer(), path=path)) as reranker:
        miss = reranker.rank(QUERY, DOCUMENTS)
        hit = reranker.rank(QUERY, DOCUMENTS)
    assert miss.hits == hit.hits == plain.hits
    assert miss.usage == replace(plain.usage, cached_documents=0)
    assert hit.usage == replace(plain.usage, tokens=0, cached_documents=len(DOCUMENTS))
    # A process of its own, which loads no model.
    code = (
        "import sys; from jina_rerank import *\n"
        "ranking = Reranker(CachedScorer(LocalScorer(), path=sys.argv[1])).rank(sys.argv[2], "
        "sys.argv[3:])\n"
        "print([hit.index for hit in ranking], ranking.usage.cached_documents, "
        "'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path, QUERY, *DOCUMENTS],
        capture_output=True,
        text=True,
        check=True,
    )
    order = [hit.index for hit in plain]
    assert done.stdout.strip() == f"{order} {len(DOCUMENTS)} False"


@pytest.mark.parametrize(
    "other",
    [
        {"max_length": 64},
        {"long_documents": "chunk"},
        {"dtype": "bfloat16"},
        {"device": "cuda"},
        {"revision": "main"},
    ],
)
@pytest.mark.parametrize("scorer", [LocalScorer, CrossEncoderScorer])
def test_what_a_fingerprint_tells_apart(scorer: type, other: dict[str, object]) -> None:
    settings = {"dtype": "float32", "device": "cpu", "max_length": 128}
    one, same = scorer("x/y", **settings), scorer("x/y", **settings)
    assert one.fingerprint == same.fingerprint
    assert "\n" not in one.fingerprint
    assert one.fingerprint != scorer("x/y", **{**settings, **other}).fingerprint
    assert one.fingerprint != scorer("x/z", **settings).fingerprint
    assert one.fingerprint != LocalScorer(**settings).fingerprint
    assert not one.listwise


def test_a_hub_id_is_told_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--x--y"
    (repository / "refs").mkdir(parents=True)
    found = {LocalScorer("x/y").fingerprint}
    for commit in ("a" * 40, "b" * 40):
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "config.json").write_text("{}")
        (repository / "refs" / "main").write_text(commit)
        found.add(LocalScorer("x/y").fingerprint)
        found.add(CrossEncoderScorer("x/y").fingerprint)
    assert len(found) == 5


def test_a_model_that_is_trained_anew_in_its_place_is_another(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", seed=1)
    cached = CachedScorer(LocalScorer(folder, dtype="float32"), path=tmp_path / "scores")
    old = ask(cached, *DOCUMENTS)
    write_checkpoint(folder, seed=2)
    # The one in memory is still the old one, so its scores are neither wrong nor mixed.
    still = ask(cached, *DOCUMENTS, "new")
    assert list(still.scores[:-1]) == list(old.scores)
    assert still.usage.cached_documents == len(DOCUMENTS)
    cached.close()
    cached = CachedScorer(LocalScorer(folder, dtype="float32"), path=tmp_path / "scores")
    new = ask(cached, *DOCUMENTS)
    assert new.usage.cached_documents == 0
    assert list(new.scores) != list(old.scores)
    with Reranker(LocalScorer(folder, dtype="float32")) as plain:
        assert list(new.scores) == plain.score(QUERY, DOCUMENTS)
    cached.close()


def test_scores_of_an_older_model_in_memory_do_not_pass_for_the_newer_one_on_disk(
    tmp_path: Path,
) -> None:
    folder = write_checkpoint(tmp_path / "model", seed=1)
    first = LocalScorer(folder, dtype="float32")
    first.warm_up()
    write_checkpoint(folder, seed=2)
    # It shares the model that the first one holds, and finds that out only by using it.
    second = CachedScorer(LocalScorer(folder, dtype="float32"), path=tmp_path / "scores")
    assert ask(second, *DOCUMENTS).usage.cached_documents == 0
    second.close()
    first.close()
    third = CachedScorer(LocalScorer(folder, dtype="float32"), path=tmp_path / "scores")
    assert ask(third, *DOCUMENTS).usage.cached_documents == 0
    third.close()


def test_hits_of_one_model_are_not_mixed_with_scores_of_another() -> None:
    """As when the model is replaced while a call is being scored."""
    fake = by_length()
    cached = CachedScorer(fake)
    ask(cached, "a", "bb")

    def replaced(requests, on_scored=None):
        fake.fingerprint = "new"
        return [
            ScoreResponse([-1.0] * len(request.documents), Usage(len(request.documents)))
            for request in requests
        ]

    fake.score = replaced  # type: ignore[method-assign]
    assert list(ask(cached, "a", "bb", "ccc").scores) == [-1, -1, -1]
    assert ask(cached, "a", "bb", "ccc").usage.cached_documents == 0
    assert ask(cached, "ccc", "a", "bb").usage.cached_documents == 3

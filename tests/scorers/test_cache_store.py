"""`CachedScorer` among threads, processes and forks, and on disks that fail."""

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from caching import (
    QUERY,
    ask,
    by_length,
    locked,
    pairs,
    rows_in,
)

from jina_rerank import (
    CachedScorer,
    ConfigurationError,
    LocalScorer,
    Reranker,
)
from jina_rerank.scorers import _score_store
from jina_rerank.testing import FakeScorer

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


@pytest.mark.parametrize("patient", [True, False])
def test_writing_ahead_is_waited_for_while_another_reads(
    patient: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_score_store, "BUSY_SECONDS", 60 if patient else 0.01)
    path = tmp_path / "scores"
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other,
        contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as ours,
    ):
        other.execute("CREATE TABLE scores (key)")
        other.execute("BEGIN")
        other.execute("SELECT * FROM scores").fetchall()
        statements: list[str] = []

        def on_statement(statement: str) -> None:
            statements.append(statement)
            if patient and len(statements) == 3:
                other.execute("COMMIT")

        ours.set_trace_callback(on_statement)
        _score_store._let_readers_go_on(ours)
        assert len(statements) >= 2
        mode = "wal" if patient else "delete"
        assert ours.execute("PRAGMA journal_mode").fetchone() == (mode,)


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
    """Tell whether this process has it open."""
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

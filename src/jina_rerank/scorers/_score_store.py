"""Storage of `CachedScorer`: one SQLite table, in memory or in a file."""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import ConfigurationError

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")

KEY_BYTES = 32
VALUE_BYTES = 28
_ENTRY_BYTES = KEY_BYTES + VALUE_BYTES

BUSY_SECONDS = 2.0
"""Longest wait for another process that writes to the file."""

REST_SECONDS = 60.0
"""Time after a failure in which the store is not used, so that not every call waits for it."""

SCHEMA_VERSION = 1
_APPLICATION_ID = int.from_bytes(b"jrrk")
_SCHEMA = """
CREATE TABLE scores (
    used INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    value BLOB NOT NULL
)
"""
_READ = """
SELECT group_concat(hex(key) || hex(value), ''), min(used), (SELECT max(used) FROM scores)
FROM scores WHERE key IN (KEYS) AND length(value) = 28
"""
# An entry that replaces another gets the next `used`, like an inserted one.
_WRITE = "INSERT OR REPLACE INTO scores (key, value) VALUES "
_MOVE = """
INSERT OR REPLACE INTO scores (key, value)
SELECT key, value FROM scores WHERE key IN (KEYS) AND used <= ? ORDER BY used
"""
_TRIM = "DELETE FROM scores WHERE used <= (SELECT max(used) FROM scores) - ?"
_KEYS_PER_STATEMENT = 499
"""SQLite before 3.32 takes 999 parameters, and a put has two for each key."""

logger = logging.getLogger(__name__)


class ScoreStore:
    """Values by key, at most `max_entries`; the least recently used are deleted first.

    An entry's `used` is its place in one sequence. A stored entry goes to the end of the sequence;
    so does an entry that is found in its older half. An entry found in the newer half stays, so
    that most reads write nothing. Entries `max_entries` places behind the end are deleted. The
    bound therefore holds without counting, and an entry stays for as long as no more than
    `max_entries / 2` others have been used with it or after it.

    After `open` has succeeded once, no method raises: a failure is logged, once until an access
    succeeds again, and the store answers as if it were empty.

    Keys and values are bytes, of `KEY_BYTES` and `VALUE_BYTES`, and not objects of several parts:
    100,000 such objects would keep the garbage collector busy, and with it all threads.

    Args:
        path: The file, or None for memory.
        max_entries: Largest number of entries, at least 1.
    """

    def __init__(self, path: Path | None, max_entries: int) -> None:
        self._path = path
        self._max_entries = max_entries
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._rest_until = -math.inf
        self._failing = False
        self._opened = False
        self._closed = False
        _stores.add(self)

    def open(self) -> None:
        """Open the store now instead of at the first use. Idempotent.

        Raises:
            ConfigurationError: The file cannot be used, or is no score cache of this version.
        """
        self._attempt(lambda _: None)

    def get(self, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """Get the values of the keys that are stored.

        Raises:
            ConfigurationError: As for `open`.
        """
        found: dict[bytes, bytes] = {}
        aging: list[list[bytes]] = []
        self._attempt(lambda connection: self._read(connection, keys, found, aging))
        if aging:  # by itself: a file that cannot be written may still be read
            self._attempt(lambda connection: self._move_to_end(connection, aging))
        return found

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Store values; of more than `max_entries` at once, only the last are kept.

        Raises:
            ConfigurationError: As for `open`.
        """
        if values:
            self._attempt(lambda connection: self._write(connection, values))

    def close(self) -> None:
        """Close the file, or drop all entries in memory. Idempotent."""
        with self._lock:
            self._closed = True
            self._disconnect()

    def _attempt(self, work: Callable[[sqlite3.Connection], None]) -> None:
        import sqlite3

        with self._lock:
            # Closing the store during a call is no error for that call.
            if self._closed or time.monotonic() < self._rest_until:
                return
            try:
                if self._connection is None:
                    self._connect()
                assert self._connection is not None
                work(self._connection)
                self._failing = False
            except (ConfigurationError, sqlite3.Error, OSError) as error:
                if isinstance(error, ConfigurationError) and not self._opened:
                    raise
                self._rest_until = time.monotonic() + REST_SECONDS
                self._disconnect()
                if not self._failing:
                    logger.warning(
                        "the score cache %s fails, and scoring goes on without it; it is tried "
                        "again every %.0f s: %s",
                        self._path or "in memory",
                        REST_SECONDS,
                        error,
                    )
                self._failing = True

    def _connect(self) -> None:
        import sqlite3

        try:
            # Used under the lock, from any thread.
            connection = sqlite3.connect(
                self._path or ":memory:",
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            # Closes the connection even if close() is never called.
            self._close_connection = weakref.finalize(self, connection.close)
            self._connection = connection
            self._prepare(connection)
            self._opened = True
        except sqlite3.Error as error:
            self._disconnect()
            if _code(error) in _passing_errors():
                raise
            raise ConfigurationError(
                f"{self._path} cannot be used as a score cache: {error}; name a file that can be "
                "written, in a folder that exists"
            ) from error
        except ConfigurationError:
            self._disconnect()
            raise

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # Checked before anything is changed: the file may belong to another program.
        with _transaction(connection):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if (version, application, tables) == (0, 0, 0):
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif application != _APPLICATION_ID:
                raise ConfigurationError(
                    f"{self._path} is a database of something else; name another file for the "
                    "score cache"
                )
            elif version != SCHEMA_VERSION:
                raise ConfigurationError(
                    f"{self._path} is a score cache of schema version {version}, and this version "
                    f"of jina-rerank reads {SCHEMA_VERSION}; name another file, or delete this one"
                )
            self._trim(connection)  # it may have been larger
        connection.execute("PRAGMA synchronous = NORMAL")  # no corruption, no wait for the disk
        _let_readers_go_on(connection)

    def _disconnect(self) -> None:
        import sqlite3

        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._close_connection()
            self._connection = None

    def _read(
        self,
        connection: sqlite3.Connection,
        keys: Collection[bytes],
        found: dict[bytes, bytes],
        aging: list[list[bytes]],
    ) -> None:
        for chunk in _chunks(keys):
            # One row for all: Python's sqlite3 releases the interpreter's lock at each row, and
            # beside a busy thread takes 5 ms to get it back: 3 s for 1,000 rows, 30 ms this way.
            entries, oldest, newest = connection.execute(
                _READ.replace("KEYS", _marks(chunk)), chunk
            ).fetchone()
            if entries is None:
                continue
            data = bytes.fromhex(entries)
            for start in range(0, len(data), _ENTRY_BYTES):
                middle = start + KEY_BYTES
                found[data[start:middle]] = data[middle : start + _ENTRY_BYTES]
            if oldest <= newest - self._max_entries // 2:
                aging.append(chunk)

    def _move_to_end(self, connection: sqlite3.Connection, chunks: list[list[bytes]]) -> None:
        with _transaction(connection):
            (newest,) = connection.execute("SELECT max(used) FROM scores").fetchone()
            for chunk in chunks:
                connection.execute(
                    _MOVE.replace("KEYS", _marks(chunk)),
                    [*chunk, (newest or 0) - self._max_entries // 2],
                )
            self._trim(connection)

    def _write(self, connection: sqlite3.Connection, values: Mapping[bytes, bytes]) -> None:
        with _transaction(connection):
            for chunk in _chunks(values):
                row = [part for key in chunk for part in (key, values[key])]
                connection.execute(_WRITE + ",".join(["(?,?)"] * len(chunk)), row)
            self._trim(connection)

    def _trim(self, connection: sqlite3.Connection) -> None:
        connection.execute(_TRIM, [self._max_entries])

    def _before_fork(self) -> None:
        self._lock.acquire()
        if self._path is not None:
            self._disconnect()

    def _after_fork_in_parent(self) -> None:
        self._lock.release()

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._connection = None  # a store in memory starts empty in the child


# SQLite's file locks belong to one process, and its records of them would be wrong in a child,
# which does not hold the parent's locks. So files are closed before a fork, and both processes
# open them again when they need them.
_stores: weakref.WeakSet[ScoreStore] = weakref.WeakSet()
_fork_lock = threading.Lock()
_stores_at_fork: list[ScoreStore] = []


def _before_fork() -> None:
    _fork_lock.acquire()
    _stores_at_fork[:] = _stores
    for store in _stores_at_fork:
        store._before_fork()


def _after_fork_in_parent() -> None:
    for store in _stores_at_fork:
        store._after_fork_in_parent()
    _stores_at_fork.clear()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    for store in _stores:
        store._after_fork_in_child()
    _stores_at_fork.clear()
    _fork_lock.release()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    with connection:  # commits, or rolls back
        connection.execute("BEGIN IMMEDIATE")
        yield


def _let_readers_go_on(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging, so that other connections can read during a write.

    On some file systems, and while another process uses the file, this is not possible. The file
    then keeps its rollback journal, which is slower and as safe. If two connections switch at the
    same time, SQLite reports at once to one of them that the file is busy, whatever the timeout,
    since each would wait for the other.
    """
    import sqlite3

    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY:
                raise
            if time.monotonic() > until:
                return
            time.sleep(random.uniform(0.001, 0.01))  # noqa: S311 - or both would collide again
        else:
            return


def _code(error: sqlite3.Error) -> int:
    """Get SQLite's primary result code; 0 for an error of Python's own module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _passing_errors() -> set[int]:
    """List the errors that are not about the file itself and may pass within a minute."""
    import sqlite3

    return {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_PROTOCOL,
    }


def _chunks(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(keys)
    while chunk := list(islice(rest, _KEYS_PER_STATEMENT)):
        yield chunk


def _marks(chunk: list[bytes]) -> str:
    return ",".join("?" * len(chunk))

"""The next piece of work is made ready while the present one is computed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def one_ahead(prepare: Callable[[S], T], items: Iterable[S]) -> Generator[T, None, None]:
    """Prepare each item, all but the first on a thread, while the caller works on the one before.

    To be closed: that waits for the thread, so that none is left inside a foreign library when the
    interpreter ends.

    Args:
        prepare: Gains time where it leaves Python's lock to others.
        items: In the order in which they are to come; none of them None.

    Yields:
        What `prepare` returns, in order. What it raises is raised when the item's turn has come.
    """
    remaining = iter(items)
    first = next(remaining, None)
    if first is None:
        return
    ready = prepare(first)
    for item in remaining:
        following: Future[T] = Future()
        thread = threading.Thread(
            target=_fill, args=(following, prepare, item), name="jina-rerank-ahead", daemon=True
        )
        thread.start()
        try:
            yield ready
        finally:
            thread.join()
        ready = following.result()
    yield ready


def _fill(future: Future[T], prepare: Callable[[S], T], item: S) -> None:
    try:
        future.set_result(prepare(item))
    except BaseException as error:  # noqa: BLE001 - every kind goes to the one who waits
        future.set_exception(error)

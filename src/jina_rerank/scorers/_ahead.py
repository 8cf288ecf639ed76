"""Preparation of the next piece of work while the current one is computed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def one_ahead(prepare: Callable[[S], T], items: Iterable[S]) -> Generator[T, None, None]:
    """Prepare each item on a thread while the caller works on the item before it.

    The first item is prepared on the caller's thread. The generator must be closed: that waits for
    the thread, so that none is left inside a foreign library when the interpreter ends.

    Args:
        prepare: Prepares an item. This saves time as far as it releases Python's lock.
        items: The items in the order of their results; none of them is None.

    Yields:
        The results of `prepare`, in order. An error of `prepare` is raised at the item's turn.
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
    except BaseException as error:  # noqa: BLE001 - passed on to the waiting caller
        future.set_exception(error)

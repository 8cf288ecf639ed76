"""A Chromium for the tests of pages, and what holds for every page of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chromium import Visit, find_chromium, open_chromium
from serving import LiveService, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Open = Callable[..., Visit]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium or another one of this machine; Playwright's own is not needed."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("needs Playwright: pip install playwright")
    if find_chromium() is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with open_chromium() as browser:
        yield browser


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Open]:
    """Open a page; at the end it must have asked its own host only and broken no policy."""
    visits: list[Visit] = []
    with ExitStack() as stack:

        def begin(address: str, **options) -> Visit:
            visits.append(stack.enter_context(Visit(chromium, address, **options)))
            return visits[-1]

        yield begin
        for visited in visits:
            assert visited.foreign_requests == []
            assert visited.violations == []
            assert visited.errors == []


@pytest.fixture(scope="session")
def service(small_checkpoint: Path) -> Iterator[LiveService]:
    """A service with the embedded model and with a tiny random one, called small."""
    models = ("jina-rerank-mini", f"small={small_checkpoint}")
    with LiveService(models=models) as live:
        until(lambda: live.engine.ready)
        yield live

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from serving import GatedModel, LiveService, served, until

Start = Callable[..., LiveService]


@pytest.fixture(scope="module")
def service(small_checkpoint: Path) -> Iterator[LiveService]:
    """A service with the tiny random model, called small."""
    with LiveService(models=(f"small={small_checkpoint}",)) as live:
        yield live


@pytest.fixture
def gated(small_checkpoint: Path) -> GatedModel:
    """A model that computes when it may, as it does at first."""
    return GatedModel(small_checkpoint)


@pytest.fixture
def start(gated: GatedModel) -> Iterator[Start]:
    """Start services with that model; they are ready."""
    with ExitStack() as stack:

        def begin(**settings) -> LiveService:
            live = stack.enter_context(LiveService(served(gated), **settings))
            until(lambda: live.engine.ready)
            return live

        yield begin
        gated.release()

"""Telling a model that is busy from one that hangs."""

import asyncio
from pathlib import Path

import httpx
import pytest
from serving import GatedModel, LiveService, served, until

from jina_rerank.server import pulse
from jina_rerank.server.pulse import FRESH, Pulse


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def gated(small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> GatedModel:
    monkeypatch.setattr(pulse, "PATIENCE", 0.05)
    return GatedModel(small_checkpoint)


async def test_a_model_that_computes_does_not_hang(gated: GatedModel) -> None:
    clock = Clock()
    model = served(gated)[0].reranker
    watching = Pulse([model], 10, clock)
    await model.awarm_up()
    for _ in range(3):
        clock.now += 100
        assert not await watching.hangs()


async def test_a_model_that_computes_nothing_for_longer_than_the_limit_hangs(
    gated: GatedModel,
) -> None:
    clock = Clock()
    model = served(gated)[0].reranker
    watching = Pulse([model], 10, clock)
    await model.awarm_up()
    gated.hold()
    assert not await watching.hangs()
    clock.now += 9
    assert not await watching.hangs()
    clock.now += 2
    assert await watching.hangs()
    gated.release()
    while await watching.hangs():
        pass


async def test_a_model_that_is_busy_with_other_work_does_not_hang(gated: GatedModel) -> None:
    clock = Clock()
    model = served(gated)[0].reranker
    watching = Pulse([model], 10, clock)
    await model.awarm_up()
    gated.hold()
    working = asyncio.create_task(model.arank("a query", ["a document " * 12] * 20))
    await asyncio.to_thread(gated.computing.wait)
    assert not await watching.hangs()
    clock.now += 9
    gated.computing.clear()
    gated.release(1)
    await asyncio.to_thread(gated.computing.wait)
    clock.now += 9
    assert not await watching.hangs()
    gated.release()
    assert len(await working) == 20


async def test_a_model_that_cannot_compute_says_why(
    gated: GatedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = served(gated)[0].reranker
    await model.awarm_up()
    gated.fail_on("alive")
    monkeypatch.setattr(pulse, "PATIENCE", 30)
    with pytest.raises(RuntimeError):
        await Pulse([model], 10, Clock()).hangs()


async def test_many_who_ask_share_an_answer(gated: GatedModel) -> None:
    clock = Clock()
    model = served(gated)[0].reranker
    watching = Pulse([model], 10, clock)
    await model.awarm_up()
    gated.batches.clear()
    assert not any(await asyncio.gather(*(watching.hangs() for _ in range(20))))
    assert not await watching.hangs()
    assert gated.batches == [1]
    clock.now += 2 * FRESH
    assert not await watching.hangs()
    assert gated.batches == [1, 1]


def test_the_service_says_so(gated: GatedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "FRESH", 0.0)

    def live() -> tuple[int, str]:
        response = httpx.get(f"{service.url}/live", timeout=30)
        return response.status_code, response.text

    with LiveService(served(gated), deadline=0.2) as service:
        until(lambda: service.engine.ready)
        assert live() == (200, "live")
        gated.hold()
        until(lambda: live() == (503, "hanging"))
        gated.release()
        until(lambda: live() == (200, "live"))
        gated.fail_on("alive")
        until(lambda: live() == (503, "failing"))

"""A model that nobody asks for is freed, and is there again when somebody does."""

from __future__ import annotations

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from serving import GatedModel, GatedScorer, LiveService, until

from jina_rerank import Reranker
from jina_rerank.scorers import shared_model
from jina_rerank.scorers.in_process import InProcessScorer
from jina_rerank.server import ServedModel
from jina_rerank.server.idle import Idle

BODY = {"query": "what is a panda?", "documents": ["a bear", "coffee"]}


def test_an_idle_model_is_freed_and_comes_back_at_the_next_request(small_checkpoint: Path) -> None:
    with LiveService(models=(f"small={small_checkpoint}",), idle_unload=0.5) as service:
        until(lambda: service.engine.ready)
        (model,) = service.engine.served
        scorer = model.reranker.scorer
        assert isinstance(scorer, InProcessScorer)
        first = httpx.post(f"{service.url}/v1/rerank", json=BODY, timeout=30)
        until(lambda: model.facts is None)
        gc.collect()
        # No other scorer of this test has it, so it is gone from memory.
        assert scorer._key() not in shared_model._slots
        for path in ("live", "ready", "health"):
            assert httpx.get(f"{service.url}/{path}").status_code == 200
        assert model.facts is None, "a health check loads nothing"
        again = httpx.post(f"{service.url}/v1/rerank", json=BODY, timeout=30)
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()


def test_only_a_model_without_requests_is_freed(small_checkpoint: Path) -> None:
    now = 0.0
    used, unused = (GatedScorer(GatedModel(small_checkpoint)) for _ in range(2))
    for scorer in (used, unused):
        scorer.warm_up()
    idle = Idle({"used": used, "unused": unused}, 5.0, lambda: now)
    now = 4.0
    idle.unload()
    assert unused.facts is not None
    with idle.using("used"), idle.using("another service's"):
        now = 9.0
        idle.unload()
        assert used.facts is not None
    assert unused.facts is None
    now = 13.0
    idle.unload()
    assert used.facts is not None, "its last request ended four seconds ago"
    now = 14.0
    idle.unload()
    assert used.facts is None


async def test_without_the_setting_nothing_is_freed(small_checkpoint: Path) -> None:
    scorer = GatedScorer(GatedModel(small_checkpoint))
    await scorer.awarm_up()
    await Idle({"kept": scorer}, 0.0).watch()
    assert scorer.facts is not None


def test_a_model_is_not_freed_while_it_computes(gated: GatedModel) -> None:
    scorer = GatedScorer(gated)
    with LiveService([ServedModel("gated", Reranker(scorer))], idle_unload=0.05) as service:
        until(lambda: service.engine.ready)
        until(lambda: scorer.facts is None)
        gated.hold()
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(httpx.post, f"{service.url}/v1/rerank", json=BODY, timeout=30)
            until(gated.computing.is_set)
            begun = time.monotonic()
            # Ten times as long as it may be idle.
            while time.monotonic() < begun + 0.5:
                assert scorer.facts is not None
                time.sleep(0.01)
            gated.release()
            assert asking.result().status_code == 200
        until(lambda: scorer.facts is None)

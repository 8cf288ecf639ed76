"""`CachedScorer`: settings, the event loop, and what tells real models apart."""

import asyncio
import gc
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from caching import (
    DOCUMENTS,
    QUERY,
    ask,
    by_length,
    locked,
)
from checkpoints import write_checkpoint
from families import write_module_list
from safetensors.torch import load_file, save_file
from scorers.test_async import LAG_SECONDS, best_lag

from jina_rerank import (
    CachedScorer,
    ConfigurationError,
    CrossEncoderScorer,
    FallbackScorer,
    LocalScorer,
    Reranker,
    RetrievalOrder,
    ScoreRequest,
    ScoreResponse,
    Usage,
)
from jina_rerank.scorers import _score_store
from jina_rerank.scorers.base import CacheableScorer
from jina_rerank.testing import FakeScorer

# Settings and lifecycle


def test_which_scorers_can_be_cached() -> None:
    assert isinstance(LocalScorer(), CacheableScorer)
    assert isinstance(CrossEncoderScorer("x/y"), CacheableScorer)
    assert isinstance(FakeScorer(), CacheableScorer)
    falling_back = FallbackScorer(LocalScorer(), RetrievalOrder())
    for scorer in (falling_back, RetrievalOrder(), CachedScorer(FakeScorer())):
        with pytest.raises(ConfigurationError, match=r"CachedScorer\(first\)"):
            CachedScorer(scorer)
    with pytest.raises(ConfigurationError, match=r"scorer must be a scorer such as .*, not str"):
        CachedScorer("turbo")
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


def test_a_head_that_is_trained_anew_in_its_place_is_another_model(tmp_path: Path) -> None:
    """A module list has its head in files of folders of its own."""
    folder = tmp_path / "model"
    write_module_list(folder)
    cached = CachedScorer(LocalScorer(folder, dtype="float32"), path=tmp_path / "scores")
    old = ask(cached, *DOCUMENTS)
    cached.close()
    head = folder / "4_Dense" / "model.safetensors"
    save_file({name: 1 - 3 * tensor for name, tensor in load_file(head).items()}, head)
    cached = CachedScorer(LocalScorer(folder, dtype="float32"), path=tmp_path / "scores")
    new = ask(cached, *DOCUMENTS)
    cached.close()
    assert new.usage.cached_documents == 0
    assert list(new.scores) != list(old.scores)


def test_scores_of_an_older_model_in_memory_do_not_pass_for_the_newer_one_on_disk(
    tmp_path: Path,
) -> None:
    folder = write_checkpoint(tmp_path / "model", seed=1)
    first = CachedScorer(LocalScorer(folder, dtype="float32"), path=tmp_path / "scores")
    first.warm_up()
    write_checkpoint(folder, seed=2)
    old = ask(first, *DOCUMENTS)
    first.close()
    second = CachedScorer(LocalScorer(folder, dtype="float32"), path=tmp_path / "scores")
    new = ask(second, *DOCUMENTS)
    assert new.usage.cached_documents == 0
    assert list(new.scores) != list(old.scores)
    second.close()


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

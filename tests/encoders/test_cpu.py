"""Sequences shared out among threads give what one forward pass gives."""

import subprocess
import sys
import threading

import pytest
import torch
from checkpoints import random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jina_rerank.encoders.cpu import SHARE_TOKENS, SHARED_BELOW, CpuEngine, share_out

lengths_of_pairs = st.lists(st.integers(1, SHARED_BELOW - 1), min_size=1, max_size=60)


def tokens(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Random ids and types."""
    generator = torch.Generator().manual_seed(sum(lengths))
    ids = torch.randint(0, 400, (sum(lengths),), generator=generator)
    return ids, torch.randint(0, 2, (sum(lengths),), generator=generator)


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> int:
    """Torch told to use so many threads, and restored."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "lengths",
    [[7], [3, 900], [1] * 40, [64, 2000, 3, 1024, 1023, 8], [1500], [1100, 1200], [300, 200, 90]],
    ids=str,
)
def test_the_logits_are_the_model_s(lengths: list[int], threads: int) -> None:
    ids, types = tokens(lengths)
    expected = random_model().forward_packed(ids, lengths, types)
    engine = CpuEngine(random_model())
    torch.testing.assert_close(engine(ids, lengths, types), expected, rtol=1e-5, atol=1e-5)


@given(lengths=st.lists(st.integers(1, 200), min_size=1, max_size=40))
@settings(max_examples=25, deadline=None)
def test_any_lengths_without_types(lengths: list[int]) -> None:
    ids, _ = tokens(lengths)
    expected = random_model().forward_packed(ids, lengths)
    torch.testing.assert_close(
        CpuEngine(random_model())(ids, lengths), expected, rtol=1e-5, atol=1e-5
    )


@given(lengths=lengths_of_pairs, threads=st.integers(1, 16))
def test_shares_hold_every_sequence_once_and_in_order(lengths: list[int], threads: int) -> None:
    threads = min(threads, len(lengths))
    shares = share_out(lengths, threads)
    assert [i for share in shares for i in share] == list(range(len(lengths)))
    assert all(shares)


@given(lengths=st.lists(st.integers(20, 60), min_size=32, max_size=400), threads=st.integers(1, 8))
def test_shares_of_like_lengths_are_about_equal(lengths: list[int], threads: int) -> None:
    shares = [sum(lengths[i] for i in share) for share in share_out(lengths, threads)]
    assert len(shares) % threads == 0
    assert max(shares) - min(shares) <= 4 * 60
    assert max(shares) <= max(2 * SHARE_TOKENS, sum(lengths) / threads + 2 * 60)


def test_other_threads_keep_torch_s_threads() -> None:
    """In a process of its own, where nothing has told torch a number yet."""
    program = """
import threading, torch
from checkpoints import random_model
from jina_rerank.encoders.cpu import CpuEngine
torch.set_num_threads(3)
def seen_by_a_new_thread():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start(); thread.join()
    return seen[0]
engine = CpuEngine(random_model())
torch.set_num_threads(4)  # after the model was loaded: later threads are to start with this
engine(torch.ones(40, dtype=torch.int32), [10] * 4)
shares = [thread.name for thread in threading.enumerate() if "share" in thread.name]
print(torch.get_num_threads(), seen_by_a_new_thread(), len(shares))
"""
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd="tests", check=True
    )
    assert out.stdout.split() == ["4", "4", "3"]


def test_an_error_reaches_the_caller() -> None:
    engine = CpuEngine(random_model())
    with pytest.raises(IndexError):
        engine(torch.full((40,), 400), [10] * 4)  # the vocabulary has 400 words


def test_two_callers_at_a_time() -> None:
    engine = CpuEngine(random_model())
    lengths = [30] * 20
    ids, types = tokens(lengths)
    expected = engine(ids, lengths, types)
    found: list[Tensor] = []
    threads = [
        threading.Thread(target=lambda: found.append(engine(ids, lengths, types))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for logits in found:
        torch.testing.assert_close(logits, expected)

"""Attention against softmax written out in fp64, and the windows against what they leave out."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jina_rerank.encoders import JinaBertConfig, alibi_slopes
from jina_rerank.encoders import attention as attention_module
from jina_rerank.encoders.architecture import Alibi
from jina_rerank.encoders.attention import WINDOW_STEP, WINDOWED_FROM, attend, windows
from jina_rerank.encoders.bias import Bias, reaches


def vectors(heads: int, length: int, scale: float, count: int = 1) -> tuple[Tensor, ...]:
    """Queries, keys and values, shape (3, count, heads, length, 8)."""
    q, k, v = torch.randn(3, count, heads, length, 8, generator=torch.Generator().manual_seed(1))
    return q * scale, k * scale, v


def bias_of(slopes: list[float], limits: list[float] | None = None) -> Bias:
    return Bias(torch.tensor(slopes), torch.tensor(limits or [torch.inf] * len(slopes)))


def weights(q: Tensor, k: Tensor, bias: Bias) -> Tensor:
    """Softmax in fp64 with the whole matrix in memory."""
    position = torch.arange(q.shape[-2])
    distance = (position[:, None] - position).abs().double()
    scores = q.double() @ k.double().mT / q.shape[-1] ** 0.5
    scores = scores - bias.slopes.double()[:, None, None] * distance
    reaches = bias.reaches[:, None, None]
    # What is no longer than two reaches is seen whole.
    seen = (distance <= reaches) | (len(position) <= 2 * reaches)
    return scores.where(seen, -torch.inf).softmax(-1)


@pytest.mark.parametrize("length", [1, 2, 63, 300, WINDOWED_FROM, 1037, 2500])
@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("heads", [4, 12])
def test_attention(heads: int, length: int, scale: float) -> None:
    bias = bias_of(alibi_slopes(heads))
    q, k, v = vectors(heads, length, scale, count=2)
    expected = weights(q, k, bias) @ v.double()
    torch.testing.assert_close(attend(q, k, v, bias).double(), expected, atol=5e-5, rtol=0)


@pytest.mark.parametrize("length", [5, 300, WINDOWED_FROM])
def test_attention_in_float64(length: int) -> None:
    bias = bias_of(alibi_slopes(4))
    q, k, v = (part.double() for part in vectors(4, length, 1.0))
    expected = weights(q, k, bias) @ v
    torch.testing.assert_close(attend(q, k, v, bias), expected, atol=1e-12, rtol=0)


@given(
    length=st.integers(WINDOWED_FROM, 1700), scale=st.floats(0, 4), heads=st.sampled_from([1, 3])
)
@settings(max_examples=25, deadline=None)
def test_long_attention_at_any_length(length: int, scale: float, heads: int) -> None:
    bias = bias_of([1.0, 0.25, 0.02][:heads])
    q, k, v = vectors(heads, length, scale)
    expected = weights(q, k, bias) @ v.double()
    torch.testing.assert_close(attend(q, k, v, bias).double(), expected, atol=5e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_what_lies_beyond_the_windows_weighs_nothing(scale: float, dtype: torch.dtype) -> None:
    bias = bias_of(alibi_slopes(12))
    q, k, _ = (t[0].to(dtype) for t in vectors(12, 2000, scale))
    position = torch.arange(2000)
    distance = (position[:, None] - position).abs()
    found = windows(q, k, bias)
    assert min(found) < 500 < max(found)  # some heads see little, some see far
    for head, weight in zip(found, weights(q, k, bias), strict=True):
        beyond = weight.where(distance > head, 0).sum(-1)
        assert beyond.max() < torch.finfo(dtype).eps / 64


def test_a_key_that_outweighs_its_distance_is_seen() -> None:
    """One key a hundred times as long as the others, and far away."""
    bias = bias_of([0.5])
    q, k, v = vectors(1, 2000, 1.0)
    q[0, 0, 1900] = k[0, 0, 5] = 0
    q[0, 0, 1900, 0], k[0, 0, 5, 0] = 60, 60
    expected = weights(q, k, bias) @ v.double()
    attended = attend(q, k, v, bias)
    torch.testing.assert_close(attended[0, 0, 1900], v[0, 0, 5], atol=1e-5, rtol=0)
    torch.testing.assert_close(attended.double(), expected, atol=5e-5, rtol=0)


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_windows_of_numbers_gone_wrong_are_whole(odd: float) -> None:
    q, k, _ = (t[0] for t in vectors(1, 1600, 1.0))
    q[0, 3, 0] = odd
    assert windows(q, k, bias_of([0.5])) == [-(-1600 // WINDOW_STEP) * WINDOW_STEP]


@pytest.mark.parametrize("rows_at_once", [1, 3, 64])
def test_bias_written_out_in_blocks_is_the_same(
    monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    heads, length = 4, 50
    monkeypatch.setattr(attention_module, "BIAS_ELEMENTS", rows_at_once * heads * length)
    q, k, v = vectors(heads, length, 1.0, count=2)
    bias = bias_of(alibi_slopes(heads))
    written_out = attention_module._attend_written_out(q, k, v, bias)
    torch.testing.assert_close(written_out, attend(q, k, v, bias), atol=1e-5, rtol=0)


def test_gradients_pass_through_the_windows() -> None:
    bias = bias_of([1.0, 0.25])
    q, k, v = (t.requires_grad_() for t in vectors(2, 1100, 1.0))
    attend(q, k, v, bias).square().sum().backward()
    own = [t.grad for t in (q, k, v)]
    expected = (weights(q, k, bias) @ v.double()).square().sum()
    for mine, exact in zip(own, torch.autograd.grad(expected, (q, k, v)), strict=True):
        torch.testing.assert_close(mine, exact, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("reach", [1, 64, 100, 256, 4000])
@pytest.mark.parametrize("length", [1, 60, 257, 400, 512, 513, 640, 1000, 1700])
def test_nobody_sees_beyond_a_reach(length: int, reach: int, dtype: torch.dtype) -> None:
    bias = bias_of([2**-7, 2**-10, 2**-7], [reach, torch.inf, reach])
    q, k, v = (t.to(dtype) for t in vectors(3, length, 1.0, count=2))
    expected = weights(q, k, bias) @ v.double()
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 0.02}[dtype]
    attended = attend(q, k, v, bias).double()
    torch.testing.assert_close(attended, expected, atol=tolerance, rtol=0)


@given(length=st.integers(2, 1700), reach=st.integers(1, 600))
@settings(max_examples=40, deadline=None)
def test_a_reach_at_any_length(length: int, reach: int) -> None:
    bias = bias_of([0.01, 0.001], [reach, torch.inf])
    q, k, v = vectors(2, length, 1.0)
    expected = weights(q, k, bias) @ v.double()
    torch.testing.assert_close(attend(q, k, v, bias).double(), expected, atol=5e-5, rtol=0)


def test_the_head_with_the_smallest_slope_sees_everything() -> None:
    shape = JinaBertConfig(hidden_size=12, num_attention_heads=3, num_hidden_layers=2)
    limited = replace(shape.architecture(), positions=Alibi((0.5, 0.1, 0.2)), windows=(256, None))
    assert reaches(limited, 0) == [256, torch.inf, 256]
    assert reaches(limited, 1) == [torch.inf] * 3

"""Attention by matrix products in bfloat16, beside torch's kernel in float64."""

import math

import pytest
import torch
from torch import Tensor

from jina_rerank.encoders.attention import attend
from jina_rerank.encoders.attention_products import LONGEST, attend_by_products
from jina_rerank.encoders.bias import Bias

HEADS, SIZE = 5, 16
SLOPES = torch.tensor([2.0**-i for i in range(1, HEADS + 1)])


def vectors(count: int, length: int, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(length)
    shape = (count, HEADS, length, SIZE)
    return [(torch.randn(shape, generator=generator) * scale).bfloat16() for _ in range(3)]


def biases() -> dict[str, Bias | None]:
    endless = torch.full((HEADS,), math.inf)
    return {
        "none": None,
        "slopes": Bias(SLOPES, endless),
        "slopes and a reach": Bias(SLOPES, torch.tensor([30.0, 60, 90, 120, math.inf])),
        "a window": Bias(torch.zeros(HEADS), torch.full((HEADS,), 20.0), has_slopes=False),
    }


def exact(q: Tensor, k: Tensor, v: Tensor, bias: Bias | None) -> Tensor:
    """Attend with everything written out, in float64."""
    length = q.shape[2]
    scores = q.double() @ k.double().mT * SIZE**-0.5
    if bias is not None:
        places = torch.arange(length)
        distances = (places[:, None] - places).abs()
        scores = scores + bias.of_length(length).at(distances).double()
    return scores.softmax(-1) @ v.double()


@pytest.mark.parametrize("kind", list(biases()))
@pytest.mark.parametrize(("count", "length"), [(1, 1), (3, 7), (40, 60), (1, 200), (2, 500)])
def test_it_is_as_near_to_float64_as_bfloat16_can_tell(kind: str, count: int, length: int) -> None:
    q, k, v = vectors(count, length)
    bias = biases()[kind]
    found = attend_by_products(q, k, v, bias)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), exact(q, k, v, bias), atol=0.04, rtol=0.02)


@pytest.mark.parametrize("scale", [20.0, 1e3])
def test_scores_that_overflow_are_left_to_torchs_kernel(scale: float) -> None:
    q, k, v = vectors(1, 40, scale)
    found = attend_by_products(q, k, v, None)
    assert bool(found.isfinite().all())
    assert torch.equal(found, attend(q, k, v, None))


def test_a_row_whose_weights_all_vanish_is_left_to_torchs_kernel() -> None:
    q, k, v = vectors(1, 10)
    q[:], k[:] = 6.0, -6.0  # scores of -144
    assert torch.equal(attend_by_products(q, k, v, None), attend(q, k, v, None))


def test_large_values_do_not_overflow_where_weights_do_not() -> None:
    q, k, v = vectors(1, 10)
    q[:], k[:], v[:] = 4.6, 4.6, 1e4  # weights of e^85
    found = attend_by_products(q, k, v, None)
    torch.testing.assert_close(found, v, atol=0, rtol=0.01)


def test_long_sequences_are_left_to_torchs_kernel() -> None:
    q, k, v = vectors(1, LONGEST + 1)
    assert torch.equal(attend_by_products(q, k, v, None), attend(q, k, v, None))

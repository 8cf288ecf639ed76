"""Fewer inputs beside all of them, and beside numpy's least squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from jina_rerank.distillation.students.bi_to_cross.pruning import AT_A_TIME, pruned_least_squares

OUTPUTS = 12
INPUTS = 2 * AT_A_TIME + 20


def with_constant(inputs: Tensor) -> Tensor:
    return torch.cat([inputs, torch.ones(len(inputs), 1, dtype=inputs.dtype)], dim=1)


def fitted(
    inputs: Tensor, outputs: Tensor, keep: int | None = None, counts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The inputs that are kept, and the outputs that they give."""
    rows = with_constant(inputs)
    counts = torch.ones(outputs.shape[1], dtype=torch.float64) if counts is None else counts
    products = rows.T @ rows
    products.diagonal().add_(1e-9 * products.diagonal().mean())
    kept, weights = pruned_least_squares(products, rows.T @ outputs, counts, keep)
    assert weights.shape == (len(kept) + 1, outputs.shape[1])
    return kept, with_constant(inputs[:, kept]) @ weights


def missed(inputs: Tensor, outputs: Tensor, keep: int) -> float:
    """The part of the outputs' variance that fewer inputs miss."""
    kept, given = fitted(inputs, outputs, keep)
    assert len(kept) == keep
    assert kept.tolist() == sorted(set(kept.tolist()))
    return float((given - outputs).square().mean() / outputs.var(0).mean())


def activations(independent: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    sources = torch.randn(3000, independent, generator=generator, dtype=torch.float64)
    mixing = torch.randn(independent, INPUTS, generator=generator, dtype=torch.float64)
    return sources @ mixing + 3.0


@pytest.fixture
def out() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(INPUTS, OUTPUTS, generator=generator, dtype=torch.float64)


def test_all_inputs_give_what_numpys_least_squares_give(out: Tensor) -> None:
    inputs = activations(200)
    noise = torch.randn(3000, OUTPUTS, generator=torch.Generator().manual_seed(2)).double()
    outputs = inputs @ out + 5.0 * noise
    kept, given = fitted(inputs, outputs)
    assert kept.tolist() == list(range(INPUTS))
    rows = with_constant(inputs).numpy()
    weights, *_ = np.linalg.lstsq(rows, outputs.numpy(), rcond=None)
    np.testing.assert_allclose(given.numpy(), rows @ weights, atol=1e-4)


def test_what_others_say_too_is_not_missed(out: Tensor) -> None:
    """Inputs that are sums of twenty others' sources, in as many as are kept."""
    inputs = activations(20)
    assert missed(inputs, inputs @ out, 25) < 0.01


def test_it_is_better_than_keeping_the_loudest(out: Tensor) -> None:
    inputs = activations(60)
    outputs = inputs @ out
    keep = 50
    loudest = (inputs.std(0) * out.norm(dim=1)).argsort(descending=True)[:keep]
    idle = torch.ones(INPUTS, dtype=torch.bool)
    idle[loudest] = False
    left_out = (inputs - inputs.mean(0))[:, idle] @ out[idle]
    plainly = float(left_out.square().mean() / outputs.var(0).mean())
    assert missed(inputs, outputs, keep) < 0.2 * plainly


def test_an_input_that_never_differs_does_no_harm(out: Tensor) -> None:
    inputs = activations(40)
    inputs[:, 7] = 2.0
    kept, _ = fitted(inputs, inputs @ out, 60)
    assert 7 not in kept.tolist()
    assert missed(inputs, inputs @ out, 60) < 0.01


def test_what_an_output_that_does_not_count_needs_is_left_out() -> None:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(500, 20, generator=generator, dtype=torch.float64)
    # Each output is an input; the louder ones do not count.
    outputs = inputs * torch.linspace(1, 2, 20, dtype=torch.float64)
    counts = (torch.arange(20) < 10).double()
    kept, given = fitted(inputs, outputs, 10, counts)
    assert kept.tolist() == list(range(10))
    torch.testing.assert_close(given[:, :10], outputs[:, :10], atol=1e-5, rtol=0)

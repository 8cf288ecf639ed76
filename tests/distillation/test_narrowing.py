"""Fewer units beside all of them, on the activations that were observed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jina_rerank.distillation.narrowing import UNITS_AT_A_TIME, narrowed
from jina_rerank.distillation.observation import ObservedLayer

HIDDEN = 12


def observed(units: Tensor) -> ObservedLayer:
    """A layer whose units gave these, shape (tokens, units)."""
    return ObservedLayer(
        reach=torch.zeros(1),
        units=units.mean(0).float(),
        covariance=torch.cov(units.T, correction=0),
        attention_norm=1.0,
        norm=1.0,
    )


def missed(units: Tensor, out: Tensor, keep: int) -> float:
    """The part of the output's variance that fewer units miss."""
    kept, weight, rest = narrowed(observed(units), out, keep)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert weight.shape == (HIDDEN, keep)
    whole = units @ out.double().T
    given = units[:, kept] @ weight.double().T + rest.double()
    return float((given - whole).square().mean() / whole.var(0).mean())


def activations(count: int, independent: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    sources = torch.randn(3000, independent, generator=generator, dtype=torch.float64)
    mixing = torch.randn(independent, count, generator=generator, dtype=torch.float64)
    return sources @ mixing + 3.0


@pytest.fixture
def out() -> Tensor:
    count = 2 * UNITS_AT_A_TIME + 20
    return torch.randn(HIDDEN, count, generator=torch.Generator().manual_seed(1))


def test_nothing_changes_where_all_are_kept(out: Tensor) -> None:
    kept, weight, rest = narrowed(observed(activations(out.shape[1], 200)), out, out.shape[1])
    assert kept.tolist() == list(range(out.shape[1]))
    assert torch.equal(weight, out)
    assert float(rest.abs().max()) < 1e-4


def test_what_others_say_too_is_not_missed(out: Tensor) -> None:
    """Units that are sums of twenty others' sources, in as many as are kept."""
    assert missed(activations(out.shape[1], 20), out, 25) < 0.01


def test_it_is_better_than_keeping_the_loudest(out: Tensor) -> None:
    units = activations(out.shape[1], 60)
    keep = 50
    size = units.std(0) * out.double().norm(dim=0)
    loudest = size.argsort(descending=True)[:keep]
    idle = torch.ones(out.shape[1], dtype=torch.bool)
    idle[loudest] = False
    left_out = (units - units.mean(0))[:, idle] @ out.double().T[idle]
    plainly = float(left_out.square().mean() / (units @ out.double().T).var(0).mean())
    assert missed(units, out, keep) < 0.2 * plainly


def test_a_unit_that_never_differs_does_no_harm(out: Tensor) -> None:
    units = activations(out.shape[1], 40)
    units[:, 7] = 2.0
    kept, _, _ = narrowed(observed(units), out, 60)
    assert 7 not in kept.tolist()
    assert missed(units, out, 60) < 0.01

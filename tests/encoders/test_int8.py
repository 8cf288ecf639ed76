"""Products of 8-bit integers: how far they are from exact ones, and what they depend on."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from checkpoints import random_model
from families import KINDS, write_module_list, write_reranker
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jina_rerank import ConfigurationError, LocalScorer, Reranker
from jina_rerank.encoders import EncoderModel
from jina_rerank.encoders.cpu import CpuEngine
from jina_rerank.encoders.int8 import (
    Int8Product,
    Int8Products,
    can_multiply_int8,
    quantize_activations,
)
from jina_rerank.encoders.quantization import dequantize_rows, quantize_rows
from jina_rerank.scorers.device import check_int8

needs_vnni = pytest.mark.skipif(
    not can_multiply_int8(), reason="no exact 8-bit products on this processor"
)

finite = st.floats(-1e6, 1e6, width=32)


@given(rows=st.lists(st.lists(finite, min_size=8, max_size=8), min_size=1, max_size=9))
def test_activations_are_rounded_to_the_nearest_of_255_values(rows: list[list[float]]) -> None:
    x = torch.tensor(rows)
    integers, scales = quantize_activations(x)
    assert integers.dtype == torch.uint8
    back = (integers.double() - 128) * scales.double()
    # Half a step, and what float32 rounds.
    assert bool(((back - x.double()).abs() <= scales.double() * 0.501).all())
    assert int(integers.min()) >= 1


def bound(x: Tensor, weight: Tensor) -> Tensor:
    """Bound the error of a product where each factor is off by half a step of its row."""
    step = x.abs().amax(1, keepdim=True) / 127, weight.abs().amax(1, keepdim=True) / 127
    by_x = step[0] / 2 * weight.abs().sum(1)
    by_weight = x.abs().sum(1, keepdim=True) * step[1].T / 2
    return 1.001 * (by_x + by_weight + x.shape[1] * step[0] * step[1].T / 4) + 1e-5


@needs_vnni
@pytest.mark.parametrize(("rows", "given", "wanted"), [(1, 32, 32), (65, 384, 96), (130, 100, 7)])
def test_products_are_within_the_bound_of_their_bits(rows: int, given: int, wanted: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    x, weight, bias, other = (
        torch.randn(shape, generator=generator)
        for shape in ((rows, given), (wanted, given), (wanted,), (rows, wanted))
    )
    x[0] *= 1000  # no row takes precision from another
    product, exact = Int8Product(weight, bias), F.linear(x, weight, bias)
    limit = bound(x, weight)
    assert bool(((product(x) - exact).abs() <= limit).all())
    assert bool(((product.plus(x, other) - (exact + other)).abs() <= limit).all())
    assert bool(((product.times(x, other) - exact * other).abs() <= limit * other.abs()).all())
    # No slope of GELU is above 1.13.
    off = (product.activated(x, "gelu") - F.gelu(exact)).abs()
    assert bool((off <= 1.13 * limit).all())


@needs_vnni
def test_a_row_of_a_product_depends_on_no_other_row() -> None:
    x = torch.randn(40, 64, generator=torch.Generator().manual_seed(1))
    product = Int8Product(torch.randn(48, 64, generator=torch.Generator().manual_seed(2)))
    together = product(x)
    x[1:] *= 50
    assert torch.equal(product(x)[0], together[0])


@needs_vnni
def test_weights_that_were_stored_in_8_bits_are_multiplied_as_they_are() -> None:
    integers, scales = quantize_rows(torch.randn(16, 32))
    weight = dequantize_rows(integers, scales, torch.float32)
    # Rows with one number show each weight.
    ones = Int8Product(weight)(torch.eye(32))
    torch.testing.assert_close(ones, weight.T, rtol=1e-6, atol=0)


@needs_vnni
def test_a_head_with_loud_weights_keeps_its_queries_and_keys(caplog) -> None:
    weight = torch.randn(3 * 6 * 8, 32, generator=torch.Generator().manual_seed(3))
    by_head = weight.view(3, 6, 8, 32)
    by_head[:2, 4] *= 3
    x = torch.randn(20, 32, generator=torch.Generator().manual_seed(4))
    with caplog.at_level("INFO"):
        found = Int8Products().projections(weight, None, 6)(x).view(20, 3, 6, 8)
    off = (found - F.linear(x, weight).view(20, 3, 6, 8)).abs().amax((0, 3))
    exact = torch.zeros(3, 6, dtype=torch.bool)
    exact[:2, 4] = True
    assert torch.equal(off < 1e-4, exact)
    assert "1 of 6 heads" in caplog.text


LENGTHS = [3, 9, 9, 40, 64, 65, 130, 300]


def tokens(lengths: list[int], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(5, 200, (sum(lengths),), generator=generator)


@needs_vnni
@pytest.mark.parametrize("kind", [*KINDS, "module list"])
def test_logits_of_every_family_are_near_those_of_float32(kind: str, tmp_path: Path) -> None:
    if kind == "module list":
        write_module_list(tmp_path / "model", pooling="mean")
    else:
        write_reranker(tmp_path / "model", kind)
    model = EncoderModel.from_pretrained(tmp_path / "model")
    ids = tokens(LENGTHS)
    exact = model.forward_packed(ids, LENGTHS)
    found = CpuEngine(model, int8=True)(ids, LENGTHS)
    assert 0 < float((found - exact).abs().max()) < 0.05 * float(exact.abs().max() + 1)


@needs_vnni
@given(lengths=st.lists(st.integers(1, 90), min_size=1, max_size=12), data=st.data())
@settings(max_examples=25, deadline=None)  # a loaded machine is no fault
def test_a_logit_depends_on_its_pair_alone(lengths: list[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(lengths))))
    rows = torch.split(tokens(lengths), lengths)
    alone = torch.cat([ENGINE(row, [len(row)]) for row in rows])
    together = ENGINE(torch.cat([rows[i] for i in order]), [lengths[i] for i in order])
    # Sums in another order may round an activation to its neighbour.
    torch.testing.assert_close(together, alone[order], atol=STEP, rtol=0)


ENGINE = CpuEngine(random_model(), int8=True) if can_multiply_int8() else None
STEP = 0.01


@needs_vnni
def test_a_reranker_takes_int8_and_keeps_the_order() -> None:
    documents = [
        "Keep the beans in an airtight jar, away from light and heat.",
        "The train to Berlin leaves at nine.",
        "Grind the coffee just before you brew it.",
    ]
    with Reranker(LocalScorer(dtype="float32")) as exact, Reranker(LocalScorer(dtype="int8")) as q:
        query = "How do I store coffee beans?"
        expected, found = exact.score(query, documents), q.score(query, documents)
    assert found == pytest.approx(expected, abs=0.03)
    assert found != expected


def test_int8_on_another_device_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="on a CPU only, not on cuda"):
        check_int8("cuda:0")

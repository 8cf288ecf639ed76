"""The variants of the slopes, and the bias, against their formulas."""

import pytest
import torch

from jina_rerank.encoders import JinaBertConfig, alibi_slopes
from jina_rerank.encoders.bias import Bias

# From the paper's formula: powers of 2^(-8/n), then every second one of 2^(-8/2n).
PAPER = {
    4: [2**-2, 2**-4, 2**-6, 2**-8],
    8: [2**-1, 2**-2, 2**-3, 2**-4, 2**-5, 2**-6, 2**-7, 2**-8],
    12: [2**-i for i in range(1, 9)] + [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5],
    16: [2 ** (-i / 2) for i in range(1, 17)],
}


def bias_of(window: int | None) -> Bias:
    """Slopes of turbo's heads, in its first layer."""
    architecture = JinaBertConfig(attention_window=window).architecture()
    bias = Bias.of(architecture, 0, torch.device("cpu"))
    assert bias is not None
    return bias


@pytest.mark.parametrize("heads", PAPER)
def test_paper(heads: int) -> None:
    assert alibi_slopes(heads, "paper") == pytest.approx(PAPER[heads], rel=1e-15)


@pytest.mark.parametrize("heads", [4, 8, 16])
def test_variants_agree_for_powers_of_two(heads: int) -> None:
    assert alibi_slopes(heads, "reranker") == alibi_slopes(heads, "paper")


def test_reranker_halves_the_second_group_of_twelve() -> None:
    expected = [2**-i for i in range(1, 9)] + [2**-1.5, 2**-2.5, 2**-3.5, 2**-4.5]
    assert alibi_slopes(12) == pytest.approx(expected, rel=1e-15)


def test_faint_slopes_are_a_sixteenth_of_the_rerankers() -> None:
    assert alibi_slopes(4, "faint") == [2**-6, 2**-8, 2**-10, 2**-12]
    expected = [slope / 16 for slope in alibi_slopes(12)]
    assert alibi_slopes(12, "faint") == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("length", [1, 2, 7, 100])
def test_reversed_bias_is_the_distance_of_reversed_queries(length: int) -> None:
    slopes = torch.tensor(alibi_slopes(12))
    position = torch.arange(length)
    distance = (position[:, None] - position[None, :]).abs()
    expected = -slopes[:, None, None] * distance
    for window in (None, 50):
        if window is not None:
            near = (distance <= window) | (slopes == slopes.min())[:, None, None]
            expected = expected.where(near, -torch.inf)
        bias = bias_of(window).reversed(length, length, length - 1)
        torch.testing.assert_close(bias.flip(-2)[0], expected)
        torch.testing.assert_close(bias_of(window).at(distance), expected)


def test_the_last_layer_sees_everything() -> None:
    distance = torch.arange(1000)
    unlimited = bias_of(50).without_limits().at(distance)
    torch.testing.assert_close(unlimited, bias_of(None).at(distance), rtol=0, atol=0)


def test_what_is_no_longer_than_two_reaches_is_seen_whole() -> None:
    limited = bias_of(50)
    torch.testing.assert_close(limited.of_length(100).reaches, bias_of(None).reaches)
    torch.testing.assert_close(limited.of_length(101).reaches, limited.reaches)


def test_bias_of_8192_tokens_takes_one_vector_a_head() -> None:
    bias = bias_of(None).reversed(8192, 8192, 8191)
    assert bias.shape == (1, 12, 8192, 8192)
    assert bias.untyped_storage().nbytes() == 12 * (2 * 8192 - 1) * 4

"""FlexAttention, uncompiled on the CPU, gives the model's own numbers."""

from collections.abc import Callable

import pytest
import torch
from checkpoints import random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jina_rerank.encoders.flex import BLOCK, FlexEncoder, block_mask

# That is what is done here, and on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@pytest.mark.parametrize("window", [None, 31, 32, 40])
@pytest.mark.parametrize("alibi_slopes", ["reranker", "paper"])
@pytest.mark.parametrize("feed_forward_type", ["geglu", "reglu", "original"])
@pytest.mark.parametrize(
    "lengths", [[1], [128], [129], [5, 300, 64, 64, 1], [127, 1, 128, 200]], ids=str
)
def test_the_logits_are_the_model_s(
    lengths: list[int], alibi_slopes: str, feed_forward_type: str, window: int | None
) -> None:
    model = random_model(
        alibi_slopes=alibi_slopes, feed_forward_type=feed_forward_type, attention_window=window
    )
    ids = torch.randint(0, 400, (sum(lengths),), generator=torch.Generator().manual_seed(0))
    flex = FlexEncoder(model, backend=None)
    torch.testing.assert_close(
        model.forward_packed(ids, lengths, encode=flex),
        model.forward_packed(ids, lengths),
        rtol=1e-5,
        atol=1e-5,
    )


def test_it_is_compiled_once_for_all_lengths() -> None:
    """The function that torch would compile; after eight times it would refuse."""
    compiled: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Callable[..., object]:
        compiled.append(graph)
        return graph.forward

    model = random_model()
    flex = FlexEncoder(model, backend=backend)
    for lengths in ([300], [1], [5, 9, 200, 400], [1] * 300, [128], [256], [127, 2], [600, 500]):
        with torch.inference_mode():
            model.forward_packed(torch.ones(sum(lengths), dtype=torch.int32), lengths, encode=flex)
    assert len(compiled) == 1


@given(lengths=st.lists(st.integers(1, 400), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_every_pair_of_a_sequence_lies_in_a_block_of_the_mask(lengths: list[int]) -> None:
    mask = block_mask(torch.tensor(lengths), torch.device("cpu"))
    dense = mask.to_dense()[0, 0].bool()
    of_blocks = dense.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    start = 0
    for length in lengths:
        own = slice(start, start + length)
        assert of_blocks[own, own].all()
        start += length
    # And no more blocks than the sequences touch.
    assert dense.sum() <= sum((length // BLOCK + 2) ** 2 for length in [*lengths, BLOCK])

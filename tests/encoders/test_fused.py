"""The fused kernels give the model's own numbers."""

import gc
import weakref

import pytest
import torch
from checkpoints import TURBO, random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jina_rerank import LocalScorer, Reranker
from jina_rerank.encoders import JinaBert
from jina_rerank.encoders import cpu as cpu_module
from jina_rerank.encoders.cpu import CpuEngine
from jina_rerank.encoders.fused import FusedEncoder
from jina_rerank.encoders.products import ROWS_PER_BLOCK, can_fuse

TURBO_SMALL = {**TURBO, "vocab_size": 400}

needs_kernels = pytest.mark.skipif(
    not can_fuse(torch.float32), reason="this torch has no fused kernels for this processor"
)


def both(model: JinaBert, lengths: list[int]) -> tuple[Tensor, Tensor]:
    """The logits of the model's own layers and of the fused ones."""
    generator = torch.Generator().manual_seed(len(lengths))
    ids = torch.randint(0, 400, (sum(lengths),), generator=generator)
    types = torch.randint(0, 2, (sum(lengths),), generator=generator)
    own = model.forward_packed(ids, lengths, types)
    fused = FusedEncoder(model)
    return own, model.forward_packed(ids, lengths, types, encode=fused)


@needs_kernels
@pytest.mark.parametrize("feed_forward_type", ["geglu", "reglu", "original"])
@pytest.mark.parametrize("alibi_slopes", ["reranker", "paper"])
@pytest.mark.parametrize("heads", [4, 8, 16])
def test_every_kind_of_model(feed_forward_type: str, alibi_slopes: str, heads: int) -> None:
    model = random_model(
        feed_forward_type=feed_forward_type,
        alibi_slopes=alibi_slopes,
        num_attention_heads=heads,
        text_positions=heads,
    )
    own, fused = both(model, [1, 2, 7, 7, 30, 64, 65])
    torch.testing.assert_close(fused, own, rtol=1e-5, atol=1e-5)


@needs_kernels
@pytest.mark.parametrize("window", [None, 8, 300])
def test_heads_that_see_less_and_heads_that_write_nothing(window: int | None) -> None:
    """They are laid out in another order, and left out; in one layer all of them are."""
    model = random_model(num_hidden_layers=4, num_attention_heads=8, attention_window=window)
    size = model.config.hidden_size // 8
    silent = [[0], [0, 5, 7], range(8), [3]]
    for layer, heads in zip(model.bert.encoder.layer, silent, strict=True):
        for head in heads:
            written = layer.attention.output.dense.weight
            written[:, head * size : (head + 1) * size] = 0.0
    own, fused = both(model, [1, 9, 30, 30, 65, 700])
    torch.testing.assert_close(fused, own, rtol=1e-5, atol=1e-5)


@needs_kernels
@pytest.mark.parametrize(
    "tokens", [1, 63, 64, 65, ROWS_PER_BLOCK - 1, ROWS_PER_BLOCK, ROWS_PER_BLOCK + 1, 1100]
)
def test_every_number_of_rows(tokens: int) -> None:
    own, fused = both(random_model(), [tokens])
    torch.testing.assert_close(fused, own, rtol=1e-5, atol=1e-5)


@needs_kernels
@given(lengths=st.lists(st.integers(1, 90), min_size=1, max_size=30), seed=st.integers(0, 5))
@settings(max_examples=40)
def test_any_lengths(lengths: list[int], seed: int) -> None:
    own, fused = both(random_model(seed=seed), lengths)
    torch.testing.assert_close(fused, own, rtol=1e-5, atol=1e-5)


@needs_kernels
@pytest.mark.skipif(not can_fuse(torch.bfloat16), reason="no fused kernels for bfloat16 here")
def test_bfloat16_is_as_close_to_float32_as_the_model_s_own() -> None:
    lengths = [*range(5, 70, 5), 40, 128, 300]
    exact, _ = both(calm_model(), lengths)
    own, fused = both(calm_model().bfloat16(), lengths)
    assert 0 < (fused - exact).square().mean() < 2 * (own - exact).square().mean()


def calm_model() -> JinaBert:
    """A model of turbo's shape, with weights about as large as a trained model's: in larger ones a
    rounding error grows from layer to layer until the logits have nothing in common."""
    model = random_model(**TURBO_SMALL)
    for parameter in model.bert.encoder.parameters():
        if parameter.ndim == 2:
            parameter.div_(5)
    return model


@needs_kernels
def test_the_model_is_left_whole_and_not_kept() -> None:
    model = random_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    engine = CpuEngine(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    weight = weakref.ref(model.bert.encoder.layers[0].out.weight)
    del model
    gc.collect()
    assert weight() is None
    assert engine(torch.arange(9), [9]).shape == (1,)


def test_without_the_kernels_the_scores_are_the_same(small_checkpoint, monkeypatch) -> None:
    query, documents = "which is it?", ["this one", "that one there", "none " * 50]
    with Reranker(LocalScorer(small_checkpoint, dtype="float32")) as reranker:
        fused = reranker.score(query, documents)
    monkeypatch.setattr(cpu_module, "can_fuse", lambda dtype: False)
    with Reranker(LocalScorer(small_checkpoint, dtype="float32")) as reranker:
        assert reranker.score(query, documents) == pytest.approx(fused, abs=1e-6)

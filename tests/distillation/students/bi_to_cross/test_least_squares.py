"""A student's layers beside the encoder's, before and after they are fitted, on other texts."""

from __future__ import annotations

import copy

import pytest
import torch
from checkpoints import random_pairs, write_bert
from tokenizers import Tokenizer
from torch import Tensor

from jina_rerank.distillation.students.bi_to_cross.convert import convert_to_cross_encoder
from jina_rerank.distillation.students.bi_to_cross.least_squares import fit_layers
from jina_rerank.distillation.students.bi_to_cross.matching import (
    SeparateTexts,
    distance,
)
from jina_rerank.distillation.training.forward import TrainingBatch, hidden_states
from jina_rerank.distillation.training.reference import ReferenceEncoder
from jina_rerank.encoders import JinaBert, PairTokenizer

HIDDEN = 32
LEARNED_ON, OTHERS = random_pairs(120, 0), random_pairs(30, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"), layers=2)


@pytest.fixture(scope="module")
def original(folder) -> ReferenceEncoder:
    return ReferenceEncoder(folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def converted(folder) -> tuple[JinaBert, Tokenizer]:
    """A student's layers but for the one on top, which the encoder does not have."""
    model, tokenizer = convert_to_cross_encoder(folder, LEARNED_ON)
    model.bert.encoder.layer = model.bert.encoder.layer[:-1]
    return model, tokenizer


@pytest.fixture
def spoilt(converted) -> JinaBert:
    model = copy.deepcopy(converted[0])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            for linear in (layer.attention.output.dense, layer.out):
                weight = linear.weight[:HIDDEN]
                noise = torch.randn(weight.shape, generator=generator)
                weight += 0.5 * weight.std() * noise
    return model


def states_of(
    model: JinaBert, tokenizer: Tokenizer
) -> tuple[list[Tensor], SeparateTexts, TrainingBatch]:
    pair = PairTokenizer(Tokenizer.from_str(tokenizer.to_str()))
    pairs = [pair.pair(*pair.encode(texts)) for texts in OTHERS]
    batch = TrainingBatch.of(pairs)
    apart = SeparateTexts.of(pairs, len(batch.input_ids), 512)
    assert apart is not None
    with torch.no_grad():
        return hidden_states(model, batch)[1:], apart, batch


def missed(model: JinaBert, tokenizer: Tokenizer, original: ReferenceEncoder) -> float:
    states, apart, _ = states_of(model, tokenizer)
    return float(distance(states, apart, original.read(apart.batch)))


def test_what_was_spoilt_is_made_up_for(converted, spoilt, original) -> None:
    model, tokenizer = converted
    before = missed(spoilt, tokenizer, original)
    fit_layers(spoilt, tokenizer, original, LEARNED_ON)
    after = missed(spoilt, tokenizer, original)
    assert before > 2 * missed(model, tokenizer, original)
    assert after < 0.5 * before


def test_special_tokens_and_channels_stay_what_they_were(converted, spoilt, original) -> None:
    _, tokenizer = converted
    before, _, batch = states_of(spoilt, tokenizer)
    unfitted = copy.deepcopy(spoilt)
    fit_layers(spoilt, tokenizer, original, LEARNED_ON)
    after, _, _ = states_of(spoilt, tokenizer)
    for one, other in zip(before, after, strict=True):
        spread = float(one[: batch.tokens].std())
        assert float((one - other)[batch.first].square().mean().sqrt()) < 0.1 * spread
    for one, other in zip(unfitted.bert.encoder.layer, spoilt.bert.encoder.layer, strict=True):
        assert torch.equal(one.out.weight[HIDDEN:], other.out.weight[HIDDEN:])
        assert not torch.equal(one.out.weight[:HIDDEN], other.out.weight[:HIDDEN])


def test_fewer_units_miss_more_and_less_than_if_not_fitted(converted, original) -> None:
    model, tokenizer = converted
    found = []
    for units in (48, 24, 12):
        fewer = copy.deepcopy(model)
        fit_layers(fewer, tokenizer, original, LEARNED_ON, units=units)
        for layer in fewer.bert.encoder.layer:
            assert layer.intermediate.dense.weight.shape == (units, HIDDEN + 8)
            assert layer.out.weight.shape == (HIDDEN + 8, units)
        found.append(missed(fewer, tokenizer, original))
    assert found == sorted(found)
    plainly = copy.deepcopy(model)
    with torch.no_grad():
        for layer in plainly.bert.encoder.layer:
            idle = layer.out.weight.norm(dim=0).argsort()[: 48 - 12]
            layer.out.weight[:, idle] = 0.0
    assert found[-1] < 0.8 * missed(plainly, tokenizer, original)


def test_a_seed_says_everything(converted, original) -> None:
    model, tokenizer = converted
    once, again, otherwise = (copy.deepcopy(model) for _ in range(3))
    # Longer than the shortest cut.
    long = [(query, f"{passage} {passage}") for query, passage in LEARNED_ON]
    for one, seed in ((once, 0), (again, 0), (otherwise, 1)):
        fit_layers(one, tokenizer, original, long, seed=seed)
    weights = [one.bert.encoder.layer[0].out.weight for one in (once, again, otherwise)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])

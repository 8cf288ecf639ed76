"""Query and passage as the original reads each by itself, compared with transformers' BERT."""

from __future__ import annotations

from array import array

import pytest
import torch
from checkpoints import TEXTS, write_bert
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BertModel

from jina_rerank.distillation.students.bi_to_cross.convert import convert_to_cross_encoder
from jina_rerank.distillation.students.bi_to_cross.masks import trainable_masks
from jina_rerank.distillation.students.bi_to_cross.matching import (
    SeparateTexts,
    distance,
)
from jina_rerank.distillation.training.forward import TrainingBatch, hidden_states
from jina_rerank.distillation.training.reference import ReferenceEncoder
from jina_rerank.encoders import JinaBert, PairTokenizer
from jina_rerank.encoders.tokenizer import TokenPair

QUERIES = ["panda", "what is a cup of tea"]
EXAMPLES = [(query, text) for query in QUERIES for text in TEXTS]
LONGEST = 512


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"), layers=2)


@pytest.fixture(scope="module")
def student(folder) -> tuple[JinaBert, PairTokenizer]:
    model, tokenizer = convert_to_cross_encoder(folder, EXAMPLES)
    return model, PairTokenizer(Tokenizer.from_str(tokenizer.to_str()))


def pairs_of(tokenizer: PairTokenizer, passages: list[str]) -> list[TokenPair]:
    ids = tokenizer.encode(passages)
    return [tokenizer.pair(query, one) for query in tokenizer.encode(QUERIES) for one in ids]


def alone(folder, pair: TokenPair) -> list[tuple[Tensor, Tensor]]:
    """BERT's states of the query's tokens, and of the passage's, and their means with all tokens.

    Of each text: shape (layers, tokens, hidden), and (hidden,).
    """
    bert = BertModel.from_pretrained(folder).eval()
    ids = list(pair.input_ids)
    end = ids.index(ids[-1])
    found = []
    for text in (ids[: end + 1], [ids[0], *ids[end + 1 :]]):
        with torch.no_grad():
            given = bert(torch.tensor([text]), output_hidden_states=True).hidden_states[1:]
        states = torch.cat(given)
        found.append((states[:, 1:], states[-1].mean(0)))
    return found


def rows_of(pair: TokenPair, first: int) -> tuple[slice, slice]:
    """Where the tokens of its two texts are, each with its [SEP]."""
    query = list(pair.token_type_ids).index(1)
    return slice(first + 1, first + query), slice(first + query, first + len(pair))


def variation(rows: Tensor) -> Tensor:
    return (rows - rows.mean(0)).square().sum()


def test_the_distance_is_what_is_missed_of_the_variance(folder, student):
    model, tokenizer = student
    pairs = pairs_of(tokenizer, list(TEXTS))
    batch = TrainingBatch.of(pairs)
    with torch.no_grad():
        states = hidden_states(model, batch)[1:3]
        apart = SeparateTexts.of(pairs, len(batch.input_ids), LONGEST)
        assert apart is not None
        alone_too = ReferenceEncoder(folder, dtype=torch.float32).read(apart.batch)
        found = distance(states, apart, alone_too)
    texts = [alone(folder, pair) for pair in pairs]
    rows = [rows_of(pair, int(first)) for pair, first in zip(pairs, batch.first, strict=True)]
    layers = []
    for layer in (0, 1):
        wanted = [torch.cat([text[side][0][layer] for text in texts]) for side in (0, 1)]
        given = [torch.cat([states[layer][one[side], :32] for one in rows]) for side in (0, 1)]
        missed = sum(variation(g - w) for g, w in zip(given, wanted, strict=True))
        layers.append(missed / variation(torch.cat(wanted)))
    wanted = [torch.stack([text[side][1] for text in texts]) for side in (0, 1)]
    given = [torch.stack([states[1][one[side], :32].mean(0) for one in rows]) for side in (0, 1)]
    missed = sum(variation(g - w) for g, w in zip(given, wanted, strict=True))
    expected = sum(layers) / 2 + missed / variation(torch.cat(wanted))
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_halves_are_what_attention_and_feed_forward_give(folder, student):
    _, tokenizer = student
    pairs = pairs_of(tokenizer, list(TEXTS))
    apart = SeparateTexts.of(pairs, 512, LONGEST)
    assert apart is not None
    bert = BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    found = ReferenceEncoder(folder, dtype=torch.float32).half_layer_states(apart.batch)
    first = 0
    for length in apart.batch.lengths:
        rows = slice(first, first + length)
        first += length
        with torch.no_grad():
            hidden = bert.embeddings(apart.batch.input_ids[rows][None])
            for (inner, outer), layer in zip(found, bert.encoder.layer, strict=True):
                hidden = layer.attention(hidden)[0]
                torch.testing.assert_close(inner[rows], hidden[0], atol=1e-5, rtol=0)
                hidden = layer.output(layer.intermediate(hidden), hidden)
                torch.testing.assert_close(outer[rows], hidden[0], atol=1e-5, rtol=0)


def test_a_vector_added_to_a_side_costs_nothing(folder, student):
    model, tokenizer = student
    pairs = pairs_of(tokenizer, ["a bear", "tea of the panda"])
    batch = TrainingBatch.of(pairs)
    apart = SeparateTexts.of(pairs, len(batch.input_ids), LONGEST)
    assert apart is not None
    original = ReferenceEncoder(folder, dtype=torch.float32).read(apart.batch)
    with torch.no_grad():
        states = hidden_states(model, batch)[1:3]
        shift = batch.token_type_ids[:, None] * torch.linspace(-1, 2, 40)
        before = distance(states, apart, original)
        after = distance([state + shift for state in states], apart, original)
        doubled = distance([2 * state for state in states], apart, original)
    assert float(after) == pytest.approx(float(before), rel=1e-3)
    assert float(doubled) > 1.1 * float(before)


def test_texts_are_read_once_and_blank_and_long_ones_left_out(student):
    _, tokenizer = student
    long = "tea " * 30
    pairs = pairs_of(tokenizer, ["a bear", "", long])
    batch = TrainingBatch.of(pairs)
    apart = SeparateTexts.of(pairs, len(batch.input_ids), 20)
    assert apart is not None
    words = [len(ids) + 2 for ids in tokenizer.encode([QUERIES[0], "a bear", QUERIES[1]])]
    assert list(apart.batch.lengths) == words
    kept = apart.sides.sum(0) == 1
    assert int(kept.sum()) == 3 * sum(words[::2]) - 6 + 2 * words[1] - 2
    assert torch.equal(batch.input_ids[kept], apart.batch.input_ids[apart.counterparts[kept]])
    assert (
        SeparateTexts.of([TokenPair(array("i", [2, 3, 3]), array("i", [0, 0, 1]))], 512, 20) is None
    )


def test_it_can_be_learned(folder, student):
    """As training learns it the layers come nearer, and the new one is left alone."""
    _, tokenizer = student
    model, _ = convert_to_cross_encoder(folder, EXAMPLES)
    pairs = pairs_of(tokenizer, list(TEXTS))
    batch = TrainingBatch.of(pairs)
    apart = SeparateTexts.of(pairs, len(batch.input_ids), LONGEST)
    assert apart is not None
    original = ReferenceEncoder(folder, dtype=torch.float32).read(apart.batch)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
    masks = trainable_masks(model.config)
    new = model.bert.encoder.layer[2].out.weight.clone()
    distances = []
    for _ in range(25):
        states = hidden_states(model, batch, whole=False)
        loss = distance(states[1:3], apart, original)
        optimizer.zero_grad()
        loss.backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and name in masks:
                parameter.grad *= masks[name]
        optimizer.step()
        distances.append(float(loss.detach()))
    assert distances[-1] < 0.5 * distances[0]
    assert torch.equal(new, model.bert.encoder.layer[2].out.weight)

from __future__ import annotations

from array import array

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jina_rerank.distillation.training.forward import TrainingBatch, hidden_states
from jina_rerank.encoders import JinaBert, JinaBertConfig
from jina_rerank.encoders.sequences import Sequences
from jina_rerank.encoders.tokenizer import TokenPair


def tiny(**changes) -> JinaBert:
    torch.manual_seed(0)
    shape = {"vocab_size": 97, "hidden_size": 24, "num_attention_heads": 3}
    small = {"num_hidden_layers": 2, "intermediate_size": 40}
    model = JinaBert(JinaBertConfig(**{**shape, **small, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def pairs(lengths: list[int], seed: int = 0) -> list[TokenPair]:
    generator = torch.Generator().manual_seed(seed)

    def numbers(high: int, count: int) -> array:
        return array("i", torch.randint(0, high, (count,), generator=generator).tolist())

    return [TokenPair(numbers(97, length), numbers(2, length)) for length in lengths]


def logits_of(model: JinaBert, given: list[TokenPair]) -> torch.Tensor:
    *_, first = hidden_states(model, TrainingBatch.of(given), whole=False)
    return model.head(first)


def reference(model: JinaBert, given: list[TokenPair]) -> torch.Tensor:
    """Inference's forward pass, one pair at a time."""
    return torch.cat(
        [
            model(torch.tensor([list(p.input_ids)]), None, torch.tensor([list(p.token_type_ids)]))
            for p in given
        ]
    )


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 150), min_size=1, max_size=12))
def test_logits_are_those_of_inference(lengths):
    model = tiny()
    given_pairs = pairs(lengths)
    with torch.no_grad():
        logits = logits_of(model, given_pairs)
        torch.testing.assert_close(logits, reference(model, given_pairs), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"feed_forward_type": "reglu"},
        {"feed_forward_type": "original"},
        {"alibi_slopes": "paper"},
        {"attention_window": 5},
    ],
)
def test_logits_follow_the_configuration(changes):
    model = tiny(**changes)
    given_pairs = pairs([30, 7])
    with torch.no_grad():
        logits = logits_of(model, given_pairs)
        torch.testing.assert_close(logits, reference(model, given_pairs), atol=2e-6, rtol=1e-5)


def test_gradients_are_those_of_inference():
    model = tiny().double()
    given_pairs = pairs([40, 3, 33, 70])
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0])
    own = torch.autograd.grad(
        (logits_of(model, given_pairs) * weights).sum(),
        list(model.parameters()),
    )
    plain = torch.autograd.grad(
        (reference(model, given_pairs) * weights).sum(), list(model.parameters())
    )
    for one, other in zip(own, plain, strict=True):
        # The head computes in float32 even here.
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_hidden_states_are_one_a_layer_and_begin_with_the_embeddings():
    model = tiny()
    batch = TrainingBatch.of(pairs([9, 4]))
    states = hidden_states(model, batch)
    assert len(states) == 3
    sequences = Sequences(batch.lengths, batch.first.device)
    embedded = model.bert.embeddings(batch.input_ids, batch.token_type_ids, sequences)
    torch.testing.assert_close(states[0], embedded)


def test_the_last_layer_may_be_had_for_first_tokens_only():
    model = tiny()
    batch = TrainingBatch.of(pairs([9, 70, 4, 33]))
    with torch.no_grad():
        *lower, last = hidden_states(model, batch)
        *lower_too, first = hidden_states(model, batch, whole=False)
    for one, other in zip(lower, lower_too, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(first, last[batch.first], atol=2e-6, rtol=1e-5)


def test_a_batch_knows_where_its_sequences_are():
    given_pairs = pairs([9, 4, 20])
    batch = TrainingBatch.of(given_pairs)
    assert batch.tokens == 33
    assert batch.first.tolist() == [0, 9, 13]
    assert len(batch.input_ids) == 512
    assert batch.input_ids[13:33].tolist() == list(given_pairs[2].input_ids)

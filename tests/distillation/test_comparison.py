"""The layers on top of a student that compares, beside the cosine that they are to compute."""

from __future__ import annotations

import pytest
import torch
from checkpoints import write_bert
from torch import Tensor
from torch.nn.functional import cosine_similarity

from jina_rerank.distillation.comparison import directions_in_state, directions_of, gathered
from jina_rerank.distillation.conversion import convert_bert
from jina_rerank.distillation.forward import training_logits
from jina_rerank.jinabert import JinaBert

HIDDEN = 192
ROOM = directions_in_state(HIDDEN)


def vectors(count: int, seed: int) -> Tensor:
    """Of any length, and all within as many directions as there is room for."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(HIDDEN, ROOM, generator=generator)).Q
    lengths = 0.2 + torch.rand(count, 1, generator=generator)
    return lengths * torch.randn(count, ROOM, generator=generator) @ basis.T


def compared(model: JinaBert, first: Tensor) -> Tensor:
    """The logits, where the layer below the last gives the first tokens these states."""
    last = model.bert.encoder.layer[-1]
    with torch.no_grad():
        hidden = last(first[:, None].flatten(0, 1), [(1, len(first))], torch.zeros(4))
        return training_logits(model, hidden)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_logits_rise_with_the_cosine(tmp_path, activation):
    folder = write_bert(
        tmp_path, layers=1, hidden_size=HIDDEN, intermediate_size=4 * HIDDEN, hidden_act=activation
    )
    model, _ = convert_bert(folder, compare=True)
    queries = vectors(200, 0)
    passages = vectors(200, 2) + torch.linspace(0, 2, 200)[:, None] * queries
    directions = directions_of(torch.cat([queries, passages]))
    logits = compared(model, gathered(queries, passages, directions))
    cosines = cosine_similarity(queries, passages)
    assert cosines.std() > 0.1
    assert float(torch.corrcoef(torch.stack([logits, cosines]))[0, 1]) > 0.95
    assert float(logits[cosines > 0.5].min()) > 0 > float(logits[cosines < 0.1].max())


def test_directions_keep_the_products():
    texts = vectors(300, 1)
    directions = directions_of(texts)
    torch.testing.assert_close(directions @ directions.T, torch.eye(ROOM), atol=1e-5, rtol=0)
    torch.testing.assert_close(texts @ directions.T @ directions, texts, atol=1e-4, rtol=0)


def test_a_narrow_feed_forward_compares_fewer_directions(tmp_path):
    folder = write_bert(tmp_path, layers=1, hidden_size=HIDDEN)
    model, _ = convert_bert(folder, compare=True, intermediate_size=10)
    queries = torch.eye(HIDDEN)[:ROOM]
    logits = compared(model, gathered(queries, queries, queries))
    # Five have their two units: only their vectors are found to be the same.
    assert (logits > 0).tolist() == [True] * 5 + [False] * (ROOM - 5)

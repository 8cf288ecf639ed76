"""Statistics of an encoder, beside transformers' BERT read text by text."""

from __future__ import annotations

import pytest
import torch
from checkpoints import TEXTS, write_bert
from tokenizers import Tokenizer
from transformers import BertModel

from jina_rerank.distillation.students.bi_to_cross.statistics import BATCH, statistics_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"), layers=2)


@pytest.fixture(scope="module")
def texts(folder):
    """More than a batch, of many lengths."""
    every = [text[:cut] for text in TEXTS for cut in range(4, 60, 6)]
    assert len(every) > BATCH
    return Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(every)


@pytest.fixture(scope="module")
def statistics(folder, texts):
    return statistics_of(folder, texts)


@pytest.fixture(scope="module")
def bert(folder):
    return BertModel.from_pretrained(folder, attn_implementation="eager").eval()


def given(bert, text, **wanted):
    with torch.no_grad():
        return bert(torch.tensor([text.ids]), **wanted)


def test_means_are_of_each_texts_tokens(statistics, bert, texts):
    expected = torch.stack([given(bert, one).last_hidden_state[0].mean(0) for one in texts])
    torch.testing.assert_close(statistics.means, expected, atol=1e-5, rtol=0)


def test_reach_is_how_far_heads_look(statistics, bert, texts):
    far, tokens = torch.zeros(2, 4), 0
    for one in texts:
        inner = range(1, len(one.ids) - 1)
        tokens += len(inner)
        attentions = given(bert, one, output_attentions=True).attentions
        for layer, attention in enumerate(attentions):
            for token in inner:
                for key in range(len(one.ids)):
                    far[layer] += attention[0, :, token, key] * abs(token - key)
    for layer in (0, 1):
        torch.testing.assert_close(
            statistics.layers[layer].reach, far[layer] / tokens, atol=1e-3, rtol=0
        )


def test_norms_are_those_of_inner_tokens(statistics, bert, texts):
    layer = bert.encoder.layer[1]
    deviations = []
    layer.output.LayerNorm.register_forward_pre_hook(
        lambda _, call: deviations.append(call[0][0, 1:-1].std(dim=1))
    )
    for one in texts:
        given(bert, one)
    inverse = 1 / torch.cat(deviations)
    assert statistics.layers[1].norm == pytest.approx(1 / float(inverse.mean()), rel=1e-4)

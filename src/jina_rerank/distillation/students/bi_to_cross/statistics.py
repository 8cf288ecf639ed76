"""Statistics of a BERT encoder over texts: attention distances, deviations and mean vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Encoding
from torch import Tensor, nn
from transformers import BertModel

from ...._quiet import quiet

BATCH = 32


@dataclass(frozen=True, slots=True)
class LayerStatistics:
    """Statistics of one layer, averaged over all tokens but special ones.

    Attributes:
        reach: Mean distance in tokens that each head attends over, shape (heads,).
        attention_norm: Standard deviation of a vector's elements in front of the norm behind the
            attention: the harmonic mean over tokens, since the norm divides by it.
        norm: The same for the norm behind the feed-forward.
    """

    reach: Tensor
    attention_norm: float
    norm: float


@dataclass(frozen=True, slots=True)
class EncoderStatistics:
    """Statistics of an encoder over texts.

    Attributes:
        embeddings: As `LayerStatistics.norm`, for the norm behind the embeddings.
        layers: Statistics of each layer, the first layer first.
        means: Mean of each text's last hidden states, shape (texts, hidden).
    """

    embeddings: float
    layers: Sequence[LayerStatistics]
    means: Tensor


@torch.no_grad()
def statistics_of(folder: Path, texts: Sequence[Encoding]) -> EncoderStatistics:
    """Compute the statistics of an encoder over texts.

    Args:
        folder: Folder of the encoder.
        texts: Texts with their special tokens, each no longer than the encoder's maximum.
    """
    with quiet():
        bert = BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    layers = list(bert.encoder.layer)
    norms = [_Norm(bert.embeddings.LayerNorm)]
    for layer in layers:
        norms += [_Norm(layer.attention.output.LayerNorm), _Norm(layer.output.LayerNorm)]
    heads = bert.config.num_attention_heads
    reach, tokens = torch.zeros(len(layers), heads), 0
    means = torch.empty(len(texts), bert.config.hidden_size)
    order = sorted(range(len(texts)), key=lambda at: len(texts[at].ids))
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        length = max(len(texts[at].ids) for at in places)
        ids = torch.zeros(len(places), length, dtype=torch.int64)
        mask = torch.zeros(len(places), length, dtype=torch.bool)
        for row, at in enumerate(places):
            ids[row, : len(texts[at].ids)] = torch.tensor(texts[at].ids)
            mask[row, : len(texts[at].ids)] = True
        special = torch.arange(length) == mask.sum(1, keepdim=True) - 1
        special[:, 0] = True
        inner = mask & ~special
        for norm in norms:
            norm.mask = inner
        given = bert(ids, attention_mask=mask.long(), output_attentions=True)
        position = torch.arange(length)
        distance = (position[:, None] - position).abs().float()
        for number, attention in enumerate(given.attentions):
            far = (attention * distance).sum(-1)
            reach[number] += (far * inner[:, None]).sum((0, 2))
        tokens += int(inner.sum())
        weight = mask[:, :, None] / mask.sum(1)[:, None, None]
        means[places] = (given.last_hidden_state * weight).sum(1)
    return EncoderStatistics(
        embeddings=norms[0].deviation,
        layers=[
            LayerStatistics(
                reach=reach[number] / tokens,
                attention_norm=norms[1 + 2 * number].deviation,
                norm=norms[2 + 2 * number].deviation,
            )
            for number in range(len(layers))
        ],
        means=means,
    )


class _Norm:
    """Collects the standard deviation of a norm's input."""

    mask: Tensor

    def __init__(self, norm: nn.Module) -> None:
        self._count, self._inverse = 0, 0.0
        norm.register_forward_pre_hook(self._see)

    def _see(self, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        rows = given[0][self.mask]
        self._count += len(rows)
        self._inverse += float((1 / rows.std(1)).sum())

    @property
    def deviation(self) -> float:
        return self._count / self._inverse

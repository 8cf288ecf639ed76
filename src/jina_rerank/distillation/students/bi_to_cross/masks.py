"""The frozen elements of a student's weights: those that hold its two texts apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ....encoders import JinaBertConfig
from .layers import Channel, State, new_head


def trainable_masks(config: JinaBertConfig) -> State:
    """Masks of the elements that are trained.

    Not those that hold the texts apart, the channels and what reads them to that end, nor words'
    codes: they are few, others are many, and an optimizer's steps are as long for all. New heads
    that write nothing go on to do so.

    Args:
        config: A student's: a wider encoder with a layer on top.

    Returns:
        By parameter, 0 for elements that stay and 1 for others, see `Trainer`.
    """
    width = config.hidden_size
    new = slice(width - width // config.num_attention_heads, width)
    prefix = "bert.embeddings"
    masks: State = {}
    for table in ("word_embeddings", "token_type_embeddings"):
        masks[f"{prefix}.{table}.weight"] = _all_but(new, width)[None]
    for kind in ("weight", "bias"):
        masks[f"{prefix}.LayerNorm.{kind}"] = _all_but(new, width)
    for number in range(config.num_hidden_layers - 1):
        masks |= _masks_of_layer(config, number)
    return masks


def _masks_of_layer(config: JinaBertConfig, number: int) -> State:
    width, heads = config.hidden_size, config.num_attention_heads
    size, layer = width // heads, f"bert.encoder.layer.{number}"
    channels = [width - size + channel for channel in Channel]
    masks: State = {}
    for name in ("attention.output.LayerNorm", "output.LayerNorm"):
        coded = number == 0 and name.startswith("attention")
        stays = slice(width - size, width) if coded else channels
        for kind in ("weight", "bias"):
            masks[f"{layer}.{name}.{kind}"] = _all_but(stays, width)
    for name in ("attention.output.dense", "output.dense"):
        masks[f"{layer}.{name}.weight"] = _all_but(channels, width)[:, None]
        masks[f"{layer}.{name}.bias"] = _all_but(channels, width)
    new = new_head(config, number)
    if number > 0:
        silent = _all_but(slice(new * size, (new + 1) * size), width)
        masks[f"{layer}.attention.output.dense.weight"] = (
            silent * _all_but(channels, width)[:, None]
        )
    ends = [(head + 1) * size for head in range(heads) if head != new]
    apart = [end - at for end in ends for at in (1, 2)]
    for part in ("query", "key"):
        masks[f"{layer}.attention.self.{part}.weight"] = _all_but(apart, width)[:, None]
        masks[f"{layer}.attention.self.{part}.bias"] = _all_but(apart, width)
    return masks


def _all_but(places: Sequence[int] | slice, count: int) -> Tensor:
    """Ones, and zeros at some places."""
    mask = torch.ones(count)
    mask[places] = 0
    return mask

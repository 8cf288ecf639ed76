"""The frozen elements of a student's weights: those that hold its two texts apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ....encoders import JinaBertConfig
from .layers import Channel, State, new_head


def trainable_masks(config: JinaBertConfig) -> State:
    """Build the masks of the weights' elements that are trained.

    Frozen are the elements that hold the two texts apart, which are the channels and the weights
    that read them, and words' codes: they are few, and an optimizer's steps are as large for them
    as for all others. The output weights of new heads without output are frozen too.

    Args:
        config: Configuration of a student: a wider encoder with a layer on top.

    Returns:
        A mask per parameter: 0 for frozen elements and 1 for trained ones, see `Trainer`.
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
    """Build a mask of ones with zeros at some places."""
    mask = torch.ones(count)
    mask[places] = 0
    return mask

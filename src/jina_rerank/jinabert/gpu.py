"""The forward pass on a CUDA GPU: large batches, all sequences of one attended to in one call.

Experimental: tested on a CPU, where the same code runs uncompiled; it has not run on a GPU. So
before a model is used its encoder is tried out, and where it fails, or its numbers are not those
of the model's own layers, these do the work.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from textwrap import shorten

import torch
from torch import Tensor

from .alibi import Bias
from .flex import FlexEncoder
from .model import Encode, JinaBert

logger = logging.getLogger(__name__)

BATCH_TOKENS = 65_536
"""Tokens of a batch: enough rows to keep a GPU busy. Not measured."""

PLAIN_BATCH_TOKENS = 4096
"""The same for the model's own layers, which attend to one length at a time."""

TOLERANCE = 0.04
"""How far from the model's own layers an encoder's output may be, relative to its length. In
bfloat16 it was 0.01 away on a CPU; with a bias that is wrong by a factor of 2, 0.07 to 0.13."""


class GpuEngine:
    """A model on a GPU.

    Building one compiles the attention, for which torch needs Triton. If that fails it says so in
    one warning, and everything works as it would without, in smaller batches.

    Args:
        model: On the GPU, in bfloat16.
        encode: What runs its layers; None for a compiled `FlexEncoder`.

    Attributes:
        batch_tokens: How many tokens to compute at once.
    """

    def __init__(self, model: JinaBert, encode: Encode | None = None) -> None:
        self._model = model
        self._encode: Encode | None = encode or FlexEncoder(model)
        self.batch_tokens = BATCH_TOKENS
        try:
            _try_out(model, self._encode)
        except Exception as error:  # noqa: BLE001 - torch's compilers raise all kinds
            logger.warning(
                "unpadded attention cannot be used, and scoring will be slower: %s: %s",
                type(error).__name__,
                shorten(str(error).partition("\n\n")[0], 300),  # then follows advice of torch's
            )
            self._encode = None
            self.batch_tokens = PLAIN_BATCH_TOKENS

    def __call__(
        self, input_ids: Tensor, lengths: Sequence[int], token_type_ids: Tensor | None = None
    ) -> Tensor:
        """The logits of sequences that lie one after another; see `JinaBert.forward_packed`.

        Args:
            input_ids: Shape (tokens,), integers, on the GPU.
            lengths: Tokens in each sequence.
            token_type_ids: Shape (tokens,); None for all zero.

        Returns:
            Shape (sequences,), float32.
        """
        return self._model.forward_packed(input_ids, lengths, token_type_ids, encode=self._encode)


def _try_out(model: JinaBert, encode: Encode) -> None:
    """Compile an encoder and compare it with the model's own layers.

    Raises:
        ArithmeticError: Its numbers are others.
        Exception: Whatever its compiler raises.
    """

    def compared(
        hidden: Tensor, runs: Sequence[tuple[int, int]], bias: Bias, first: Tensor
    ) -> Tensor:
        found = encode(hidden, runs, bias, first)
        plain: Tensor = model.bert.encoder(hidden, runs, bias, first)
        distance = float((found - plain).float().norm() / plain.float().norm())
        if not distance < TOLERANCE:  # a NaN is not
            raise ArithmeticError(f"off by {distance:.2g} from the model's own layers")
        return plain

    lengths = [200, 100, 20]
    ids = torch.arange(sum(lengths), device=next(model.parameters()).device)
    with torch.inference_mode():
        model.forward_packed(ids % model.config.vocab_size, lengths, encode=compared)

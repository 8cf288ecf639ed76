"""The forward pass on a CUDA GPU: large batches, and one attention call for a whole batch.

Experimental: tested on a CPU, where the same code runs uncompiled; it has not run on a GPU. So the
encoder is tested before a model is used. If it fails, or its numbers differ from those of the
model's own layers, the model's own layers are used.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from textwrap import shorten

import torch
from torch import Tensor

from .flex import FlexEncoder
from .model import Encode, EncoderModel
from .sequences import Sequences

logger = logging.getLogger(__name__)

BATCH_TOKENS = 65_536
"""Tokens of a batch: enough rows to keep a GPU busy. Not measured."""

PLAIN_BATCH_TOKENS = 4096
"""The same for the model's own layers, which attend to one length at a time."""

TOLERANCE = 0.04
"""Largest distance of an encoder's output from that of the model's own layers, relative to the
length of the latter. In bfloat16 it was 0.01 on a CPU; with a bias that is wrong by a factor of 2,
0.07 to 0.13."""


class GpuEngine:
    """A model on a GPU.

    Building one compiles the attention, for which torch needs Triton. If that fails, there is one
    warning, and the model's own layers are used, in smaller batches.

    Args:
        model: The model, on the GPU, in bfloat16.
        encode: Runs the layers; None for a compiled `FlexEncoder`.

    Attributes:
        batch_tokens: Number of tokens in a batch.
    """

    def __init__(self, model: EncoderModel, encode: Encode | None = None) -> None:
        self._model = model
        self._encode: Encode = encode or FlexEncoder(model)
        self.batch_tokens = BATCH_TOKENS
        try:
            _try_out(model, self._encode)
        except Exception as error:  # noqa: BLE001 - torch's compilers raise all kinds
            logger.warning(
                "unpadded attention cannot be used, and scoring will be slower: %s: %s",
                type(error).__name__,
                shorten(str(error).partition("\n\n")[0], 300),  # advice from torch follows
            )
            self._encode = model.encode
            self.batch_tokens = PLAIN_BATCH_TOKENS

    def __call__(
        self, input_ids: Tensor, lengths: Sequence[int], token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Compute logits of sequences one after another; see `PackedForward.forward_packed`.

        Args:
            input_ids: Shape (tokens,), integers, on the GPU.
            lengths: Tokens in each sequence.
            token_type_ids: Shape (tokens,); None for all zero.

        Returns:
            Shape (sequences,), float32.
        """
        return self._model.forward_packed(input_ids, lengths, token_type_ids, encode=self._encode)


def _try_out(model: EncoderModel, encode: Encode) -> None:
    """Compile an encoder and compare it with the model's own layers.

    Raises:
        ArithmeticError: Its numbers differ too much.
        Exception: Whatever its compiler raises.
    """
    architecture = model.architecture
    window = max((own for own in architecture.windows if own is not None), default=0)
    # With ALiBi, a window limits only sequences of more than two windows.
    lengths = [min(length, architecture.max_length) for length in (2 * window + 200, 100, 20)]
    sequences = Sequences(lengths, next(model.parameters()).device)
    ids = torch.arange(sequences.tokens, device=sequences.first.device)
    with torch.inference_mode():
        hidden = model.bert.embeddings(ids % architecture.vocab_size, None, sequences)
        found, plain = encode(hidden, sequences), model.encode(hidden, sequences)
        distance = float((found - plain).norm() / plain.norm())
    if not distance < TOLERANCE:  # a NaN is not
        raise ArithmeticError(f"off by {distance:.2g} from the model's own layers")

"""Other libraries that run a cross-encoder, each at its best sensible settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from jina_rerank.encoders import JinaBert, JinaBertConfig, alibi_slopes
from jina_rerank.encoders.layer import Layer
from jina_rerank.encoders.sequences import Sequences
from jina_rerank.scorers._pair_model import TOKENS_PER_BATCH

from .shapes import state_of

BATCH = 32
"""sentence-transformers' default, and near the best of all that pad."""

Batch = dict[str, NDArray[np.int64]]


def padded_batches(lengths: Sequence[int], size: int, *, by_length: bool) -> Iterator[Batch]:
    """Rectangular batches, each as wide as its longest sequence.

    Args:
        lengths: Tokens of the pairs.
        size: Pairs in a batch.
        by_length: Whether to sort them first.
    """
    order = sorted(lengths, reverse=True) if by_length else lengths
    for start in range(0, len(order), size):
        batch = np.array(order[start : start + size])
        mask = (np.arange(batch.max()) < batch[:, None]).astype(np.int64)
        yield {
            "input_ids": mask.copy(),
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(mask),
        }


class OriginalsWay:
    """Padded batches and attention in single steps with the whole bias in memory.

    What the models' own code on the hub does, as torch executes it, in float32.

    Args:
        config: The shape.
    """

    def __init__(self, config: JinaBertConfig) -> None:
        self._model = JinaBert(config).eval().requires_grad_(False)
        self._model.load_state_dict(state_of(config))
        self._heads = config.num_attention_heads
        self._slopes = torch.tensor(alibi_slopes(self._heads, config.alibi_slopes))

    def __call__(self, batch: Batch) -> Tensor:
        """The logits of a padded batch."""
        ids, mask = (torch.from_numpy(batch[name]) for name in ("input_ids", "attention_mask"))
        position = torch.arange(ids.shape[1])
        distance = (position[:, None] - position).abs()
        bias = -self._slopes[:, None, None] * distance + (1 - mask[:, None, None]) * -10000.0
        with torch.inference_mode():
            hidden = self._embedded(ids)
            for layer in self._model.bert.encoder.layers:
                hidden = self._layer(layer, hidden, bias)
            pooled = self._model.bert.pooler(hidden[:, 0])
            return self._model.classifier(pooled)  # type: ignore[no-any-return]

    def run(self, lengths: Sequence[int], *, by_length: bool) -> None:
        """All pairs, in batches of 32."""
        for batch in padded_batches(lengths, BATCH, by_length=by_length):
            self(batch)

    def _embedded(self, ids: Tensor) -> Tensor:
        lengths = [ids.shape[1]] * len(ids)
        sequences = Sequences(lengths, ids.device)
        rows: Tensor = self._model.bert.embeddings(ids.flatten(), None, sequences)
        return rows.view(*ids.shape, -1)

    def _layer(self, layer: Layer, hidden: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (
            rows.view(*rows.shape[:2], self._heads, -1).transpose(1, 2)
            for rows in layer.project(hidden)
        )
        scores = q @ k.mT / q.shape[-1] ** 0.5 + bias
        context = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return layer.after_attention(context, hidden)


def onnx_runtime(model: Path) -> Callable[[Batch], object]:
    """A graph in ONNX Runtime, all optimizations on.

    Args:
        model: model.onnx.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda batch: session.run(None, {name: batch[name] for name in names})


def openvino(model: object, precision: str) -> Callable[[Batch], object]:
    """A graph in OpenVINO.

    Args:
        model: The path of model.onnx, or a model that OpenVINO has read.
        precision: "f32" or "bf16".
    """
    import openvino as ov

    hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled = ov.Core().compile_model(model, "CPU", hints)
    names = [value.get_any_name() for value in compiled.inputs]
    return lambda batch: list(compiled({name: batch[name] for name in names}).values())


def run_batches(
    model: Callable[[Batch], object], lengths: Sequence[int], size: int, *, by_length: bool
) -> None:
    """All pairs through a model that takes padded batches.

    Args:
        model: Takes a batch.
        lengths: Tokens of the pairs.
        size: Pairs in a batch.
        by_length: Whether to sort them first.
    """
    for batch in padded_batches(lengths, size, by_length=by_length):
        model(batch)


class MatrixProducts:
    """The linear layers' products and nothing between them: the floor.

    Args:
        config: The shape.
        dtype: What to compute in.
    """

    def __init__(self, config: JinaBertConfig, dtype: torch.dtype) -> None:
        hidden, middle = config.hidden_size, config.intermediate_size
        shapes = [(hidden, 3 * hidden), (hidden, hidden), (hidden, 2 * middle), (middle, hidden)]
        self._weights = [torch.randn(out, rows, dtype=dtype) for rows, out in shapes]
        self._inputs = {
            width: torch.randn(TOKENS_PER_BATCH, width, dtype=dtype) for width in (hidden, middle)
        }
        self._layers = config.num_hidden_layers

    def run(self, lengths: Sequence[int]) -> None:
        """As many rows as there are tokens."""
        tokens = sum(lengths)
        with torch.inference_mode():
            for start in range(0, tokens, TOKENS_PER_BATCH):
                rows = min(TOKENS_PER_BATCH, tokens - start)
                for _ in range(self._layers):
                    for weight in self._weights:
                        F.linear(self._inputs[weight.shape[1]][:rows], weight)

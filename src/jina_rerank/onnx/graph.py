"""A JinaBERT reranker as a graph of standard ONNX operators, written from its weights.

Node by node, with numpy and `onnx` alone, so that it needs no torch and hangs on no tracer's
version. The heads of a layer are computed one after another: a runtime then never holds more
than one head's attention matrix, where all of them together, with their bias, would take
10 GB at 8,192 tokens and 12 heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..jinabert.alibi import alibi_slopes, reaches
from ..jinabert.config import JinaBertConfig
from .files import INPUTS, OUTPUT

OPSET = 17
"""The first with LayerNormalization, and old enough for every runtime in use."""

IR_VERSION = 8
"""The file format of that opset; what `onnx` would write by itself is too new for many."""

_HIDDEN = -1e9
"""Added, times a slope of at least 2^-13, to the score of a key that is padding or out of reach.
Finite, so that a row without any token gives some number and no NaN."""


@dataclass(frozen=True, slots=True)
class Int8Rows:
    """A matrix as 8-bit integers with one scale a row; see `jinabert.quantization`.

    Attributes:
        integers: Shape (rows, columns), int8.
        scale: Shape (rows,), float32.
    """

    integers: NDArray[np.int8]
    scale: NDArray[np.float32]

    def dequantized(self) -> NDArray[np.float32]:
        """The matrix in float32."""
        return self.integers * self.scale[:, None]


Float32: TypeAlias = "NDArray[np.float32]"
Weights: TypeAlias = "Mapping[str, Float32 | Int8Rows]"


def build_model(config: JinaBertConfig, weights: Weights) -> ModelProto:
    """The graph of a model.

    Inputs: `input_ids`, `attention_mask` (1 for tokens, 0 for padding) and `token_type_ids`,
    each int64 of shape (batch, length), both of any size. Output: `logits`, float32 of shape
    (batch, 1). A logit depends on its pair alone, whatever the padding, if all weights are
    float32.

    Args:
        config: The shape.
        weights: Every tensor by its name in the checkpoint. A matrix may come as `Int8Rows`: an
            embedding is then looked up as integers, which is exact, and a product is computed in
            integers, its other side quantized as it comes, by the range of the whole batch.
    """
    graph = _Graph(config, weights)
    graph.write()
    batch_and_length = ["batch", "length"]
    proto = helper.make_graph(
        graph.nodes,
        "jinabert",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, batch_and_length)
            for name in INPUTS
        ],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 1])],
        list(graph.constants.values()),
    )
    return helper.make_model(
        proto,
        producer_name="jina-rerank",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )


class _Graph:
    """The nodes written so far. Each method writes some and returns the name of its result."""

    def __init__(self, config: JinaBertConfig, weights: Weights) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self._config = config
        self._weights = weights
        self._quantized: dict[str, list[str]] = {}

    def write(self) -> None:
        words = self._embedding("bert.embeddings.word_embeddings.weight", "input_ids")
        types = self._embedding("bert.embeddings.token_type_embeddings.weight", self._type_rows())
        hidden = self._norm(self._node("Add", words, types), "bert.embeddings.LayerNorm")
        distance, padding = self._distance(), self._padding()
        everywhere = self._node("Sub", padding, distance)
        biases = self._biases(distance, everywhere)
        last = self._config.num_hidden_layers - 1
        for n in range(last):
            hidden = self._layer(f"bert.encoder.layer.{n}", hidden, hidden, biases)
        # The head reads the first token only, so nothing else of the last layer is computed.
        first, first_bias = self._first_row(hidden), self._first_row(everywhere)
        first_biases = [first_bias] * self._config.num_attention_heads
        first = self._layer(f"bert.encoder.layer.{last}", first, hidden, first_biases)
        first = self._node("Squeeze", first, self._integers(1))
        pooled = self._node("Tanh", self._linear(first, "bert.pooler.dense"))
        logits = self._linear(pooled, "classifier")
        self.nodes.append(helper.make_node("Identity", [logits], [OUTPUT]))

    def _type_rows(self) -> str:
        """Which row of the token type embedding each token takes; of types there are 0 and 1."""
        positions = self._config.text_positions
        if positions == 1:
            return "token_type_ids"
        one, count, last = (
            self._constant(f"int.{n}", np.array(n, np.int64)) for n in (1, positions, positions - 1)
        )
        # Each text is one run: how many of its type stand up to a token says where that is.
        other = self._node("Sub", one, "token_type_ids")
        places = [
            self._node("Mul", self._node("CumSum", of, one), of) for of in (other, "token_type_ids")
        ]
        place = self._node("Sub", self._node("Add", *places), one)
        place = self._node("Min", place, last)
        return self._node("Add", self._node("Mul", "token_type_ids", count), place)

    def _distance(self) -> str:
        """Shape (length, length): |i - j|."""
        length = self._node("Shape", "input_ids", start=1)
        last = self._node("Squeeze", length, self._integers(0))
        zero, one = (self._constant(f"int.{n}", np.array(n, np.int64)) for n in (0, 1))
        positions = self._node("Range", zero, last, one)
        positions = self._node("Cast", positions, to=TensorProto.FLOAT)
        rows = self._node("Unsqueeze", positions, self._integers(1))
        return self._node("Abs", self._node("Sub", rows, positions))

    def _padding(self) -> str:
        """Shape (batch, 1, length): 0, and far below that where a key is padding."""
        mask = self._node("Cast", "attention_mask", to=TensorProto.FLOAT)
        padding = self._node("Sub", self._number(1), mask)
        padding = self._node("Mul", padding, self._number(_HIDDEN))
        return self._node("Unsqueeze", padding, self._integers(1))

    def _biases(self, distance: str, everywhere: str) -> list[str]:
        """The bias of each head, without its slope: -|i - j|, and far below that out of reach.

        See `Bias.sees_whole`.
        """
        heads, window = self._config.num_attention_heads, self._config.attention_window
        if window is None:
            return [everywhere] * heads
        beyond = self._node("Greater", distance, self._number(float(window)))
        beyond = self._node("And", beyond, self._longer_than(2 * window))
        beyond = self._node("Cast", beyond, to=TensorProto.FLOAT)
        beyond = self._node("Mul", beyond, self._number(_HIDDEN))
        near = self._node("Add", everywhere, beyond)
        limits = reaches(alibi_slopes(heads, self._config.alibi_slopes), window)
        return [everywhere if math.isinf(limit) else near for limit in limits]

    def _longer_than(self, tokens: int) -> str:
        """Shape (batch, 1, 1): whether a pair has more tokens, without its padding."""
        length = self._node("ReduceSum", "attention_mask", self._integers(1))
        limit = self._constant(f"int.{tokens}", np.array(tokens, np.int64))
        longer = self._node("Greater", length, limit)
        return self._node("Unsqueeze", longer, self._integers(1))

    def _first_row(self, value: str) -> str:
        """Shape (batch, 1, columns) of (batch, rows, columns)."""
        zero, one = self._integers(0), self._integers(1)
        return self._node("Slice", value, zero, one, one)

    def _layer(self, name: str, queries: str, hidden: str, biases: Sequence[str]) -> str:
        """A block's output for `queries`, which are some or all of the rows of `hidden`."""
        context = self._attention(f"{name}.attention.self", queries, hidden, biases)
        dense = self._linear(context, f"{name}.attention.output.dense")
        attended = self._node("Add", queries, dense)
        attended = self._norm(attended, f"{name}.attention.output.LayerNorm")
        units, out, norm = self._units(name, attended)
        given = self._node("Add", attended, self._linear(units, out))
        return self._norm(given, norm)

    def _units(self, layer: str, attended: str) -> tuple[str, str, str]:
        """What a feed-forward's units give, and the names of the product and norm behind them."""
        if self._config.feed_forward_type == "original":
            units = self._activation(self._linear(attended, f"{layer}.intermediate.dense"))
            return units, f"{layer}.output.dense", f"{layer}.output.LayerNorm"
        # The first half of the rows is the gate. Two products, since splitting what one gives
        # would be copied on one thread: an eighth of the time of a batch.
        gated, half = f"{layer}.mlp.gated_layers.weight", self._config.intermediate_size
        gate = self._activation(self._product(attended, gated, slice(0, half)))
        value = self._product(attended, gated, slice(half, 2 * half))
        return self._node("Mul", gate, value), f"{layer}.mlp.wo", f"{layer}.mlp.layernorm"

    def _attention(self, name: str, queries: str, hidden: str, biases: Sequence[str]) -> str:
        heads = self._config.num_attention_heads
        size = self._config.hidden_size // heads
        slopes = np.array(alibi_slopes(heads, self._config.alibi_slopes))
        # softmax(q.k / sqrt(size) + slope * bias), with the slope taken out of the sum. Written
        # as a bias of each head it would be the same in every layer, and a runtime that sees
        # that keeps all heads' at once.
        scale = np.repeat(1 / (slopes * math.sqrt(size)), size).astype(np.float32)
        query = self._linear(queries, f"{name}.query")
        query = self._node("Mul", query, self._constant("query_scale", scale))
        key = self._node("Transpose", self._linear(hidden, f"{name}.key"), perm=[0, 2, 1])
        value = self._linear(hidden, f"{name}.value")
        context = []
        for q, k, v, slope, bias in zip(
            self._split(query, heads, axis=2),
            self._split(key, heads, axis=1),
            self._split(value, heads, axis=2),
            slopes.tolist(),
            biases,
            strict=True,
        ):
            scores = self._node("Add", self._node("MatMul", q, k), bias)
            scores = self._node("Mul", scores, self._number(slope))
            context.append(self._node("MatMul", self._node("Softmax", scores, axis=-1), v))
        return self._node("Concat", *context, axis=2)

    def _activation(self, gate: str) -> str:
        if self._config.feed_forward_type == "reglu":
            return self._node("Relu", gate)
        # The shape in which runtimes know the exact GELU and compute it as one.
        erf = self._node("Erf", self._node("Div", gate, self._number(math.sqrt(2))))
        raised = self._node("Add", erf, self._number(1))
        return self._node("Mul", self._node("Mul", gate, raised), self._number(0.5))

    def _embedding(self, name: str, ids: str) -> str:
        table = self._weights[name]
        if not isinstance(table, Int8Rows):
            return self._node("Gather", self._constant(name, table), ids)
        integers = self._node("Gather", self._constant(name, table.integers), ids)
        scales = self._constant(f"{name}.scale", table.scale[:, None])
        scale = self._node("Gather", scales, ids)
        return self._node("Mul", self._node("Cast", integers, to=TensorProto.FLOAT), scale)

    def _linear(self, value: str, name: str) -> str:
        product = self._product(value, f"{name}.weight")
        return self._node("Add", product, self._vector(f"{name}.bias"))

    def _product(self, value: str, name: str, rows: slice = slice(None)) -> str:
        """The value times some or all rows of a matrix, whose rows are the outputs."""
        matrix = self._weights[name]
        if rows.start is not None:
            name = f"{name}.from_row_{rows.start}"
        if not isinstance(matrix, Int8Rows):
            return self._node("MatMul", value, self._constant(name, matrix[rows].T))
        if value not in self._quantized:
            self._quantized[value] = self._nodes("DynamicQuantizeLinear", [value], 3)
        quantized, scale, zero = self._quantized[value]
        integers = self._constant(name, matrix.integers[rows].T)
        product = self._node("MatMulInteger", quantized, integers, zero)
        product = self._node("Cast", product, to=TensorProto.FLOAT)
        scales = self._constant(f"{name}.scale", matrix.scale[rows])
        return self._node("Mul", product, self._node("Mul", scale, scales))

    def _norm(self, value: str, name: str) -> str:
        weight, bias = self._vector(f"{name}.weight"), self._vector(f"{name}.bias")
        return self._node(
            "LayerNormalization", value, weight, bias, epsilon=self._config.layer_norm_eps
        )

    def _split(self, value: str, parts: int, *, axis: int) -> list[str]:
        return self._nodes("Split", [value], parts, axis=axis)

    def _vector(self, name: str) -> str:
        vector = self._weights[name]
        assert not isinstance(vector, Int8Rows)
        return self._constant(name, vector)

    def _number(self, value: float) -> str:
        return self._constant(f"float.{value!r}", np.array(value, np.float32))

    def _integers(self, value: int) -> str:
        return self._constant(f"int.[{value}]", np.array([value], np.int64))

    def _constant(
        self, name: str, array: NDArray[np.float32] | NDArray[np.int64] | NDArray[np.int8]
    ) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def _node(self, operator: str, *inputs: str, **attributes: float | list[int]) -> str:
        (output,) = self._nodes(operator, inputs, 1, **attributes)
        return output

    def _nodes(
        self, operator: str, inputs: Sequence[str], outputs: int, **attributes: float | list[int]
    ) -> list[str]:
        name = f"{operator}.{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        node = helper.make_node(operator, inputs, names, name)
        node.attribute.extend(helper.make_attribute(key, of) for key, of in attributes.items())
        self.nodes.append(node)
        return names

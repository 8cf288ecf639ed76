"""An encoder reranker as a graph of standard ONNX operators, written from its weights.

It is written node by node, with numpy and `onnx` alone, so it needs no torch and does not depend on
a tracer's version. The heads of a layer are computed one after another: a runtime then never holds
more than one head's attention matrix, where all of them together, with their bias, would take
10 GB at 8,192 tokens and 12 heads.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import ModelProto, TensorProto, helper

from ..encoders.architecture import Alibi, Architecture, PositionTable, Rotary
from ..encoders.bias import reaches
from ..encoders.block import Attend, Block
from .files import IDS, MASK, OUTPUT, TYPES
from .nodes import Nodes, Weights

OPSET = 17
"""The first with LayerNormalization, and old enough for every runtime in use."""

IR_VERSION = 8
"""The file format of that opset; the default of `onnx` is too new for many runtimes."""

HIDDEN = -1e9
"""Added, times a slope of at least 2^-13, to the score of a key that is padding or out of reach.
Finite, so that a row without any token gives some number and no NaN."""


def build_model(architecture: Architecture, weights: Weights) -> ModelProto:
    """Write the graph of a model.

    Inputs: `input_ids`, `attention_mask` (1 for tokens, 0 for padding) and, where the model has
    token types, `token_type_ids`, each int64 of shape (batch, length), both of any size. Output:
    `logits`, float32 of shape (batch, 1). A logit depends on its pair alone, whatever the padding.

    Args:
        architecture: The shape.
        weights: Every tensor by its name in `EncoderModel`. A matrix may come as `Int8Rows`: an
            embedding is then looked up as integers, which is exact, and a product that need not
            be exact is computed in integers, with its input rounded to 8 bits row by row.
    """
    nodes = Nodes(weights)
    _write(nodes, architecture)
    inputs = [IDS, MASK, TYPES] if architecture.token_types else [IDS, MASK]
    batch_and_length = ["batch", "length"]
    proto = helper.make_graph(
        nodes.written,
        "reranker",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, batch_and_length)
            for name in inputs
        ],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 1])],
        list(nodes.constants.values()),
    )
    return helper.make_model(
        proto,
        producer_name="jina-rerank",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )


def _write(nodes: Nodes, architecture: Architecture) -> None:
    hidden = _embeddings(nodes, architecture)
    attention = _Attention(nodes, architecture)
    *layers, last = (_Layer(nodes, architecture, n) for n in range(architecture.num_hidden_layers))
    for layer in layers:
        hidden = layer.run(hidden, attention.of_layer(layer.number))
    if architecture.head.pooling == "mean":
        whole = last.run(hidden, attention.of_layer(last.number))
        pooled = _mean(nodes, _final_norm(nodes, architecture, whole))
    else:
        # The head reads the first token only, so nothing else of the last layer is computed.
        inputs = last.before_attention(hidden)
        query = last.query(nodes.first_row(inputs))
        attend = attention.of_layer(last.number, first_only=True)
        context = attend(query, last.key(inputs), last.value(inputs))
        first = last.after_attention(context, nodes.first_row(hidden))
        first = _final_norm(nodes, architecture, first)
        pooled = nodes.node("Squeeze", first, nodes.integers(1))
    _head(nodes, architecture, pooled)


def _embeddings(nodes: Nodes, architecture: Architecture) -> str:
    name, positions = "bert.embeddings", architecture.positions
    embedded = nodes.embedding(f"{name}.word_embeddings.weight", IDS)
    if architecture.token_types:
        table = f"{name}.token_type_embeddings.weight"
        embedded = nodes.node("Add", embedded, nodes.embedding(table, _types(nodes, architecture)))
    if isinstance(positions, PositionTable):
        table = f"{name}.position_embeddings.weight"
        rows = nodes.embedding(table, _position_rows(nodes, positions))
        embedded = nodes.node("Add", embedded, rows)
    return nodes.norm(embedded, f"{name}.LayerNorm", architecture.layer_norm_eps)


def _types(nodes: Nodes, architecture: Architecture) -> str:
    """Compute each token's row in the token type embedding; the types are 0 and 1.

    A model of one type has one row for all tokens, whatever their types.
    """
    positions = architecture.text_positions
    if positions == 1:
        return TYPES if architecture.token_types > 1 else nodes.integer(0)
    one, count, last = (nodes.integer(n) for n in (1, positions, positions - 1))
    # Each text is one run: the number of its type's tokens up to a token gives the token's place.
    other = nodes.node("Sub", one, TYPES)
    places = [nodes.node("Mul", nodes.node("CumSum", of, one), of) for of in (other, TYPES)]
    place = nodes.node("Sub", nodes.node("Add", *places), one)
    place = nodes.node("Min", place, last)
    return nodes.node("Add", nodes.node("Mul", TYPES, count), place)


def _position_rows(nodes: Nodes, table: PositionTable) -> str:
    """Compute each token's row in the position table, (length,) or, if by ids, (batch, length)."""
    if table.padding_id is None:
        return _places(nodes)
    padding = nodes.integer(table.padding_id)
    counts = nodes.node("Not", nodes.node("Equal", IDS, padding))
    counts = nodes.node("Cast", counts, to=TensorProto.INT64)
    place = nodes.node("Mul", nodes.node("CumSum", counts, nodes.integer(1)), counts)
    return nodes.node("Add", place, padding)


def _places(nodes: Nodes) -> str:
    """Compute the places 0, 1, 2, ..., shape (length,), int64."""
    length = nodes.node("Squeeze", nodes.node("Shape", IDS, start=1), nodes.integers(0))
    return nodes.node("Range", nodes.integer(0), length, nodes.integer(1))


def _final_norm(nodes: Nodes, architecture: Architecture, rows: str) -> str:
    if not architecture.norm_first:
        return rows
    return nodes.norm(rows, "bert.encoder.final_norm", architecture.layer_norm_eps)


def _mean(nodes: Nodes, rows: str) -> str:
    """Compute the mean of each sequence's tokens, shape (batch, columns)."""
    mask = nodes.node("Cast", MASK, to=TensorProto.FLOAT)
    own = nodes.node("Mul", rows, nodes.node("Unsqueeze", mask, nodes.integers(2)))
    total = nodes.node("ReduceSum", own, nodes.integers(1), keepdims=0)
    return nodes.node("Div", total, nodes.node("ReduceSum", mask, nodes.integers(1)))


def _head(nodes: Nodes, architecture: Architecture, pooled: str) -> None:
    head = architecture.head
    rows = nodes.activation(nodes.linear(pooled, "bert.pooler.dense"), head.activation)
    if head.norm:
        rows = nodes.norm(rows, "bert.pooler.LayerNorm", head.norm_eps)
    logits = nodes.linear(rows, "classifier")
    nodes.written.append(helper.make_node("Identity", [logits], [OUTPUT]))


class _Layer(Block[str]):
    """A layer whose values are names of the graph."""

    def __init__(self, nodes: Nodes, architecture: Architecture, number: int) -> None:
        self.number = number
        self.norm_first, self.has_gate = architecture.norm_first, architecture.gated
        self._nodes, self._architecture = nodes, architecture
        self._name = f"bert.encoder.layer.{number}"
        gated = ("mlp.gated_layers", "mlp.wo", "mlp.layernorm")
        plain = ("intermediate.dense", "output.dense", "output.LayerNorm")
        self._into, self._out, self._norm = (
            f"{self._name}.{part}" for part in (gated if self.has_gate else plain)
        )

    def query(self, rows: str) -> str:
        return self._nodes.linear(rows, f"{self._name}.attention.self.query")

    def key(self, rows: str) -> str:
        return self._nodes.linear(rows, f"{self._name}.attention.self.key")

    def value(self, rows: str) -> str:
        return self._nodes.linear(rows, f"{self._name}.attention.self.value")

    def project(self, rows: str) -> tuple[str, str, str]:
        return self.query(rows), self.key(rows), self.value(rows)

    def attention_out(self, context: str, residual: str) -> str:
        dense = self._nodes.linear(context, f"{self._name}.attention.output.dense")
        return self._nodes.node("Add", residual, dense)

    def normed_attention(self, rows: str) -> str:
        norm = f"{self._name}.attention.output.LayerNorm"
        if not self._nodes.has(f"{norm}.weight"):
            return rows
        return self._nodes.norm(rows, norm, self._architecture.layer_norm_eps)

    def activated(self, rows: str) -> str:
        product = (
            self._nodes.half_linear(rows, self._into, 0)
            if self.has_gate
            else self._nodes.linear(rows, self._into)
        )
        return self._nodes.activation(product, self._architecture.activation)

    def gated(self, rows: str, activated: str) -> str:
        return self._nodes.node("Mul", activated, self._nodes.half_linear(rows, self._into, 1))

    def feed_forward_out(self, units: str, residual: str) -> str:
        return self._nodes.node("Add", residual, self._nodes.linear(units, self._out))

    def normed(self, rows: str) -> str:
        return self._nodes.norm(rows, self._norm, self._architecture.layer_norm_eps)


class _Attention:
    """Attention of the layers, head by head."""

    def __init__(self, nodes: Nodes, architecture: Architecture) -> None:
        self._nodes, self._architecture = nodes, architecture
        self._heads, size = architecture.num_attention_heads, architecture.head_size
        positions = architecture.positions
        ones = [1.0] * self._heads
        self._slopes = list(positions.slopes) if isinstance(positions, Alibi) else ones
        # softmax(q.k / sqrt(size) + slope * bias), with the slope taken out of the sum. A bias for
        # each head would be the same in every layer, and a runtime that detects this keeps those of
        # all heads in memory at once.
        scale = 1 / (np.array(self._slopes) * math.sqrt(size))
        self._scale = nodes.constant("query_scale", np.repeat(scale, size).astype(np.float32))
        places = nodes.node("Cast", _places(nodes), to=TensorProto.FLOAT)
        column = nodes.node("Unsqueeze", places, nodes.integers(1))
        self._distance = nodes.node("Abs", nodes.node("Sub", column, places))
        self._everywhere = self._padding()
        if isinstance(positions, Alibi):
            self._everywhere = nodes.node("Sub", self._everywhere, self._distance)
        self._near: dict[int, str] = {}
        self._angles: dict[float, tuple[str, str]] = {}
        if isinstance(positions, Rotary):
            for theta in dict.fromkeys(positions.thetas):
                self._angles[theta] = self._cosines_and_sines(column, theta)

    def of_layer(self, number: int, *, first_only: bool = False) -> Attend[str]:
        """Build the attention of a layer, for the queries of all tokens or of the first one."""
        nodes, biases = self._nodes, self._biases(number)
        if first_only:
            rows = {bias: nodes.first_row(bias) for bias in dict.fromkeys(biases)}
            biases = [rows[bias] for bias in biases]

        def attention(query: str, key: str, value: str) -> str:
            if isinstance(self._architecture.positions, Rotary):
                angles = self._angles[self._architecture.positions.thetas[number]]
                key = self._rotated(key, *angles)
                # Place 0 is not rotated.
                query = query if first_only else self._rotated(query, *angles)
            query = nodes.node("Mul", query, self._scale)
            key = nodes.node("Transpose", key, perm=[0, 2, 1])
            context = [
                self._of_head(*parts)
                for parts in zip(
                    nodes.split(query, self._heads, axis=2),
                    nodes.split(key, self._heads, axis=1),
                    nodes.split(value, self._heads, axis=2),
                    self._slopes,
                    biases,
                    strict=True,
                )
            ]
            return nodes.node("Concat", *context, axis=2)

        return attention

    def _of_head(self, query: str, key: str, value: str, slope: float, bias: str) -> str:
        nodes = self._nodes
        scores = nodes.node("Add", nodes.node("MatMul", query, key), bias)
        if slope != 1.0:
            scores = nodes.node("Mul", scores, nodes.number(slope))
        return nodes.node("MatMul", nodes.node("Softmax", scores, axis=-1), value)

    def _padding(self) -> str:
        """Compute a bias of 0, far below where a key is padding; shape (batch, 1, length)."""
        nodes = self._nodes
        mask = nodes.node("Cast", MASK, to=TensorProto.FLOAT)
        padding = nodes.node("Mul", nodes.node("Sub", nodes.number(1), mask), nodes.number(HIDDEN))
        return nodes.node("Unsqueeze", padding, nodes.integers(1))

    def _biases(self, number: int) -> list[str]:
        """Build the bias of each head of a layer, without its slope; far below 0 beyond its reach.

        See `Bias.sees_whole`.
        """
        window = self._architecture.windows[number]
        if window is None:
            return [self._everywhere] * self._heads
        if window not in self._near:
            self._near[window] = self._within(window)
        return [
            self._everywhere if math.isinf(reach) else self._near[window]
            for reach in reaches(self._architecture, number)
        ]

    def _within(self, window: int) -> str:
        nodes = self._nodes
        beyond = nodes.node("Greater", self._distance, nodes.number(float(window)))
        if isinstance(self._architecture.positions, Alibi):
            length = nodes.node("ReduceSum", MASK, nodes.integers(1))
            longer = nodes.node("Greater", length, nodes.integer(2 * window))
            beyond = nodes.node("And", beyond, nodes.node("Unsqueeze", longer, nodes.integers(1)))
        beyond = nodes.node("Cast", beyond, to=TensorProto.FLOAT)
        hidden = nodes.node("Mul", beyond, nodes.number(HIDDEN))
        if not isinstance(self._architecture.positions, Alibi):
            hidden = nodes.node("Unsqueeze", hidden, nodes.integers(0))
        return nodes.node("Add", self._everywhere, hidden)

    def _cosines_and_sines(self, column: str, theta: float) -> tuple[str, str]:
        """Compute cosines and sines, each of shape (length, 1, size / 2); see `rotary.angles`."""
        nodes, size = self._nodes, self._architecture.head_size
        exponents = np.arange(0, size, 2, dtype=np.float32) / size
        speeds = (1 / np.float32(theta) ** exponents).astype(np.float32)
        turned = nodes.node("Mul", column, nodes.constant(f"speeds.{theta!r}", speeds))
        turned = nodes.node("Unsqueeze", turned, nodes.integers(1))
        return nodes.node("Cos", turned), nodes.node("Sin", turned)

    def _rotated(self, rows: str, cosines: str, sines: str) -> str:
        """Rotate queries or keys, shape (batch, length, heads * size), by their places."""
        nodes = self._nodes
        by_head = nodes.integers(0, 0, self._heads, self._architecture.head_size)
        first, second = nodes.split(nodes.node("Reshape", rows, by_head), 2, axis=3)

        def times(value: str, angle: str) -> str:
            return nodes.node("Mul", value, angle)

        turned = [
            nodes.node("Sub", times(first, cosines), times(second, sines)),
            nodes.node("Add", times(second, cosines), times(first, sines)),
        ]
        together = nodes.node("Concat", *turned, axis=3)
        return nodes.node("Reshape", together, nodes.integers(0, 0, -1))

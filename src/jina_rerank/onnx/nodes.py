"""The nodes of an ONNX graph: products, norms and lookups written one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ..encoders.architecture import Activation
from ..encoders.quantization import LARGEST, SMALLEST, ZERO_POINT


@dataclass(frozen=True, slots=True)
class Int8Rows:
    """A matrix as 8-bit integers with one scale a row; see `encoders.quantization`.

    Attributes:
        integers: Shape (rows, columns), int8.
        scale: Shape (rows,), float32.
        exact: Whether products with it are computed in float32, from the dequantized matrix.
    """

    integers: NDArray[np.int8]
    scale: NDArray[np.float32]
    exact: bool = False

    def dequantized(self) -> NDArray[np.float32]:
        """Compute the matrix in float32."""
        return self.integers * self.scale[:, None]


Attribute: TypeAlias = "float | list[int] | TensorProto"
Float32: TypeAlias = "NDArray[np.float32]"
Weights: TypeAlias = "Mapping[str, Float32 | Int8Rows]"


class Nodes:
    """Nodes and constants written so far; each method writes some and returns its result's name.

    Args:
        weights: Every tensor by its name in `EncoderModel`.

    Attributes:
        written: The nodes.
        constants: Weights and numbers that they read, by name.
    """

    def __init__(self, weights: Weights) -> None:
        self.written: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self._weights = weights
        self._quantized: dict[str, tuple[str, str]] = {}

    def node(self, operator: str, *inputs: str, **attributes: Attribute) -> str:
        """Write a node of one output."""
        (output,) = self.nodes(operator, inputs, 1, **attributes)
        return output

    def nodes(
        self, operator: str, inputs: Sequence[str], outputs: int, **attributes: Attribute
    ) -> list[str]:
        """Write a node of several outputs."""
        name = f"{operator}.{len(self.written)}"
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        node = helper.make_node(operator, inputs, names, name)
        node.attribute.extend(helper.make_attribute(key, of) for key, of in attributes.items())
        self.written.append(node)
        return names

    def has(self, name: str) -> bool:
        """Tell whether there is a weight of that name."""
        return name in self._weights

    def linear(self, value: str, name: str) -> str:
        """Write a product and its bias, where it has one."""
        return self._biased(self.product(value, f"{name}.weight"), f"{name}.bias")

    def half_linear(self, value: str, name: str, half: int) -> str:
        """Write a product with one half of a matrix's rows.

        A gate takes two such products: the halves of a single product would be copied on one
        thread, which takes an eighth of the time of a batch.
        """
        size = self._rows(f"{name}.weight") // 2
        rows = slice(half * size, (half + 1) * size)
        product = self.product(value, f"{name}.weight", rows)
        return self._biased(product, f"{name}.bias", rows)

    def product(self, value: str, name: str, rows: slice = slice(None)) -> str:
        """Write the value times some or all rows of a matrix, whose rows are the outputs."""
        matrix = self._weights[name]
        if rows.start is not None:
            name = f"{name}.from_row_{rows.start}"
        if not isinstance(matrix, Int8Rows):
            return self.node("MatMul", value, self.constant(name, matrix[rows].T))
        integers = self.constant(name, matrix.integers[rows].T)
        scales = self.constant(f"{name}.scale", matrix.scale[rows])
        if matrix.exact:
            # Runtimes compute this once, at load.
            dequantized = self.node("Cast", integers, to=TensorProto.FLOAT)
            return self.node("MatMul", value, self.node("Mul", dequantized, scales))
        if value not in self._quantized:
            self._quantized[value] = self._quantize(value)
        quantized, own_scales = self._quantized[value]
        zero = self.constant("zero_point", np.array(ZERO_POINT, np.uint8))
        product = self.node("MatMulInteger", quantized, integers, zero)
        product = self.node("Cast", product, to=TensorProto.FLOAT)
        return self.node("Mul", self.node("Mul", product, scales), own_scales)

    def _quantize(self, value: str) -> tuple[str, str]:
        """Round each row to 8 bits by its own largest magnitude; see `quantize_activations`.

        Returns:
            The integers with the zero point added, uint8, and the scales, shape (..., rows, 1).
        """
        largest = self.node("ReduceMax", self.node("Abs", value), axes=[-1], keepdims=1)
        largest = self.node("Max", largest, self.number(SMALLEST))
        scales = self.node("Div", largest, self.number(LARGEST))
        # QuantizeLinear takes scales along one axis only, so all rows are put on one axis.
        columns = self.node("Shape", value, start=-1)
        by_rows = self.node("Concat", self.integers(-1), columns, axis=0)
        flat_scales = self.node("Reshape", scales, self.integers(-1))
        zero_points = self.nodes(
            "ConstantOfShape", [self.node("Shape", flat_scales)], 1,
            value=helper.make_tensor("zero_point", TensorProto.UINT8, [1], [ZERO_POINT]),
        )  # fmt: skip
        rows = self.node("Reshape", value, by_rows)
        quantized = self.node("QuantizeLinear", rows, flat_scales, *zero_points, axis=0)
        return self.node("Reshape", quantized, self.node("Shape", value)), scales

    def activation(self, value: str, kind: Activation) -> str:
        """Write an activation; GELU in the form that runtimes recognize and fuse."""
        if kind != "gelu":
            return self.node({"relu": "Relu", "tanh": "Tanh"}[kind], value)
        erf = self.node("Erf", self.node("Div", value, self.number(math.sqrt(2))))
        raised = self.node("Add", erf, self.number(1))
        return self.node("Mul", self.node("Mul", value, raised), self.number(0.5))

    def norm(self, value: str, name: str, eps: float) -> str:
        """Write a layer norm."""
        vectors = [self.vector(f"{name}.{kind}") for kind in ("weight", "bias")
                   if self.has(f"{name}.{kind}")]  # fmt: skip
        return self.node("LayerNormalization", value, *vectors, epsilon=eps)

    def embedding(self, name: str, ids: str) -> str:
        """Write a lookup of rows."""
        table = self._weights[name]
        if not isinstance(table, Int8Rows):
            return self.node("Gather", self.constant(name, table), ids)
        integers = self.node("Gather", self.constant(name, table.integers), ids)
        scales = self.constant(f"{name}.scale", table.scale[:, None])
        scale = self.node("Gather", scales, ids)
        return self.node("Mul", self.node("Cast", integers, to=TensorProto.FLOAT), scale)

    def split(self, value: str, parts: int, *, axis: int) -> list[str]:
        """Write a split into equal parts."""
        return self.nodes("Split", [value], parts, axis=axis)

    def first_row(self, value: str) -> str:
        """Write a slice: shape (batch, 1, columns) of (batch, rows, columns)."""
        zero, one = self.integers(0), self.integers(1)
        return self.node("Slice", value, zero, one, one)

    def vector(self, name: str) -> str:
        """Name a weight that is a vector."""
        vector = self._weights[name]
        assert not isinstance(vector, Int8Rows)
        return self.constant(name, vector)

    def number(self, value: float) -> str:
        """Name a float32 constant."""
        return self.constant(f"float.{value!r}", np.array(value, np.float32))

    def integer(self, value: int) -> str:
        """Name an int64 constant without dimensions."""
        return self.constant(f"int.{value}", np.array(value, np.int64))

    def integers(self, *values: int) -> str:
        """Name an int64 constant of one dimension."""
        return self.constant(f"int.{list(values)}", np.array(values, np.int64))

    def constant(
        self,
        name: str,
        array: NDArray[np.float32] | NDArray[np.int64] | NDArray[np.int8] | NDArray[np.uint8],
    ) -> str:
        """Name an array, which is stored once."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def _biased(self, product: str, name: str, rows: slice = slice(None)) -> str:
        if not self.has(name):
            return product
        vector = self._weights[name]
        assert not isinstance(vector, Int8Rows)
        if rows.start is not None:
            name = f"{name}.from_row_{rows.start}"
        return self.node("Add", product, self.constant(name, vector[rows]))

    def _rows(self, name: str) -> int:
        matrix = self._weights[name]
        return len(matrix.scale if isinstance(matrix, Int8Rows) else matrix)

"""Models in 8 bits as the rivals' own tools make them, calibrated on random tokens."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .peers import Batch
from .shapes import VOCABULARY
from .work import chunk_lengths

SAMPLES = 32
"""Sequences that scales are found on. The weights are random and so are the tokens: more of them
would change no scale by much, and a scale changes no time."""


def calibration() -> Iterator[Batch]:
    """Sequences of chunks' lengths, one a batch, of random tokens."""
    rng = np.random.default_rng(4)
    for length in chunk_lengths(SAMPLES, seed=4):
        ids = rng.integers(1000, VOCABULARY, (1, length))
        yield {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the tools from a line for each weight that has no columns."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def openvino_static(graph: Path) -> Any:  # noqa: ANN401 - an OpenVINO model, which is not typed
    """A graph with static int8 by NNCF for OpenVINO, SmoothQuant included.

    Args:
        graph: model.onnx in float32.
    """
    import nncf
    import openvino as ov

    model = ov.Core().read_model(graph)
    names = [value.get_any_name() for value in model.inputs]
    data = nncf.Dataset([{name: batch[name] for name in names} for batch in calibration()])
    with _quietly():
        return nncf.quantize(
            model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=SAMPLES
        )


def onnx_dynamic(graph: Path, target: Path) -> Path:
    """A graph with dynamic int8 by ONNX Runtime's own tool: weights by column, inputs by batch.

    Args:
        graph: model.onnx in float32.
        target: Where to write.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quietly():
        quantize_dynamic(graph, target, per_channel=True, weight_type=QuantType.QInt8)
    return target


def onnx_static(graph: Path, target: Path) -> Path:
    """A graph with static int8 (QDQ) by ONNX Runtime's own tool, its advice for VNNI followed.

    Args:
        graph: model.onnx in float32.
        target: Where to write.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    inputs = [value.name for value in onnx.load(graph, load_external_data=False).graph.input]

    class Reader(CalibrationDataReader):  # type: ignore[misc] # it is not typed
        def __init__(self) -> None:
            self._batches = calibration()

        def get_next(self) -> Batch | None:
            batch = next(self._batches, None)
            return None if batch is None else {name: batch[name] for name in inputs}

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(graph, prepared, skip_symbolic_shape=True)
    with _quietly():
        quantize_static(
            prepared,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return target

"""Everyone who can run a checkpoint, at their best settings, and why the others cannot.

Runtimes get token ids, sorted by length, in batches of 32, so that no time of theirs goes into
tokens; sentence-transformers gets texts and sorts by itself. OpenVINO and ONNX Runtime run the
graph that `jina-rerank export` writes: one that OpenVINO itself converts from transformers took the
same time, within 5%.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from . import quantized
from .machine import has_bfloat16
from .measuring import Contender
from .peers import BATCH, Batch, onnx_runtime, openvino, run_batches

THEIRS = "sentence-transformers"
ONNX = "ONNX Runtime float32, sorted"
ONNX_DYNAMIC = "ONNX Runtime dynamic int8, sorted"
ONNX_STATIC = "ONNX Runtime static int8 (QDQ), sorted"
OPENVINO = "OpenVINO float32, sorted"
OPENVINO_BF16 = "OpenVINO bfloat16, sorted"
OPENVINO_INT8 = "OpenVINO static int8, the rest float32, sorted"
OPENVINO_INT8_BF16 = "OpenVINO static int8, the rest bfloat16, sorted"
CTRANSLATE2 = "CTranslate2 int8, sorted"
THEIRS_INT8 = f"{THEIRS}, OpenVINO int8"

NOT_BESIDE = (
    "its backend is optimum-intel, of which even 2.2.0 wants transformers < 5.6, huggingface-hub "
    "< 1.22 and so older datasets and tokenizers; it computes what OpenVINO static int8 does here"
)
"""Why sentence-transformers' own OpenVINO backend is not here: tried on 30 November 2026."""

Run = Callable[[Batch], object]
"""Takes a padded batch; its answer is not used."""


class LeftOutError(Exception):
    """A rival that cannot run here; the message says why."""


@dataclass(slots=True)
class Rivals:
    """Those who run a checkpoint.

    Attributes:
        contenders: By label.
        left_out: Why the others are not among them, by label.
    """

    contenders: dict[str, Contender] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, label: str, make: Callable[[], Contender]) -> None:
        """Add one, or the reason why it cannot run.

        Args:
            label: Its label.
            make: Builds it, or raises `LeftOutError`.
        """
        try:
            self.contenders[label] = make()
        except LeftOutError as reason:
            self.left_out[label] = str(reason)

    def figures(self, prefix: str = "") -> dict[str, float | str]:
        """The reasons as figures of a result.

        Args:
            prefix: Stands before each label.
        """
        return {f"left out: {prefix}{label}": why for label, why in self.left_out.items()}


def of_checkpoint(saved: Path, graph: Path, lengths: Sequence[int]) -> Rivals:
    """The runtimes that get token ids.

    Args:
        saved: The checkpoint's folder.
        graph: Its model.onnx in float32; quantized ones are written beside it.
        lengths: Tokens of the pairs.
    """

    def sorted_batches(run: Run) -> Contender:
        return partial(run_batches, run, lengths, BATCH, by_length=True)

    def openvino_bf16(model: Callable[[], object]) -> Contender:
        if not has_bfloat16():
            raise LeftOutError("this processor has no bfloat16 units, or may not use them")
        return sorted_batches(openvino(model(), "bf16"))

    static: list[object] = []

    def openvino_static() -> object:
        require("nncf")
        if not static:  # once for both precisions: it takes a while
            static.append(quantized.openvino_static(graph))
        return static[0]

    rivals = Rivals()
    rivals.add(ONNX, lambda: sorted_batches(onnx_runtime(graph)))
    rivals.add(
        ONNX_DYNAMIC,
        lambda: sorted_batches(
            onnx_runtime(quantized.onnx_dynamic(graph, graph.with_name("dynamic.onnx")))
        ),
    )
    rivals.add(
        ONNX_STATIC,
        lambda: sorted_batches(
            onnx_runtime(quantized.onnx_static(graph, graph.with_name("static.onnx")))
        ),
    )
    rivals.add(OPENVINO, lambda: sorted_batches(openvino(graph, "f32")))
    rivals.add(OPENVINO_INT8, lambda: sorted_batches(openvino(openvino_static(), "f32")))
    rivals.add(OPENVINO_BF16, lambda: openvino_bf16(lambda: graph))
    rivals.add(OPENVINO_INT8_BF16, lambda: openvino_bf16(openvino_static))
    rivals.add(CTRANSLATE2, lambda: sorted_batches(ctranslate2(saved, graph.parent / "ct2")))
    rivals.left_out[THEIRS_INT8] = NOT_BESIDE
    return rivals


def require(module: str) -> None:
    """Raise `LeftOutError` if a module is not installed.

    Args:
        module: Its name.
    """
    if find_spec(module) is None:
        raise LeftOutError(f"{module} is not installed")


def ctranslate2(saved: Path, target: Path) -> Run:
    """An encoder in CTranslate2, int8, with the checkpoint's own head behind it.

    It removes padding by itself, and quantizes rows as they come.

    Args:
        saved: A checkpoint of transformers.
        target: Where to write the converted one.
    """
    require("ctranslate2")
    import ctranslate2 as ct2
    import transformers
    from ctranslate2.converters import TransformersConverter

    kind = transformers.PreTrainedConfig.get_config_dict(saved)[0].get("model_type")
    if kind not in {"bert", "xlm-roberta"}:
        raise LeftOutError(f"CTranslate2 has no converter for a reranker of the type {kind}")
    TransformersConverter(str(saved)).convert(str(target), quantization="int8")
    encoder = ct2.Encoder(
        str(target), compute_type="int8_float32", intra_threads=torch.get_num_threads()
    )
    model = transformers.AutoModelForSequenceClassification.from_pretrained(saved).eval()

    def array(values: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> object:
        return ct2.StorageView.from_array(values.astype(np.int32))

    def run(batch: Batch) -> object:
        output = encoder.forward_batch(
            array(batch["input_ids"]),
            lengths=array(batch["attention_mask"].sum(1)),
            token_type_ids=batch["token_type_ids"].tolist(),
        )
        # RoBERTa's head reads hidden states itself, BERT's what was pooled.
        pooled = output.pooler_output if kind == "bert" else output.last_hidden_state
        with torch.inference_mode():
            return [model.classifier(torch.from_numpy(np.array(pooled))).numpy()]

    return run

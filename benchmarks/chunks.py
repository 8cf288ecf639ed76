"""One query and 100 chunks of 24 to 512 tokens, turbo's shape, beside every peer."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder

from jina_rerank import LocalScorer, Reranker
from jina_rerank.onnx.export import export_onnx

from .measuring import Contender, Result, Target, interleave
from .peers import (
    BATCH,
    MatrixProducts,
    OriginalsWay,
    onnx_runtime,
    openvino,
    padded_batches,
    run_batches,
)
from .shapes import (
    TURBO,
    bert_config,
    engine,
    model_of,
    run_engine,
    run_plain,
    save_jinabert,
    save_transformer,
)
from .work import Texts, chunk_lengths

ORIGINAL = "the original's way: padded, float32, input order"
OURS = "jina-rerank, bfloat16"
FLOOR = "matrix products alone, bfloat16"
FLASHRANK = "ONNX Runtime float32, one batch (FlashRank's way)"
FASTEMBED = "ONNX Runtime float32, 64 in input order (fastembed's way)"
ONNX = "ONNX Runtime float32, sorted"
ONNX_INT8 = "ONNX Runtime int8, sorted"
OPENVINO = "OpenVINO float32, sorted"
OPENVINO_BF16 = "OpenVINO bfloat16, sorted"


def measure(rounds: int, *, quick: bool) -> Result:
    """All contenders, interleaved.

    Args:
        rounds: Rounds that count.
        quick: Leave out the slowest.
    """
    lengths = chunk_lengths(100)
    original = OriginalsWay(TURBO)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contenders: dict[str, Contender] = {
            ORIGINAL: partial(original.run, lengths, by_length=False),
            "the original's way, sorted by length": partial(original.run, lengths, by_length=True),
            **exported(save_jinabert(folder / "turbo"), lengths),
            **with_texts(folder, lengths),
        }
        for dtype in (torch.float32, torch.bfloat16):
            label = str(dtype).removeprefix("torch.")
            plain = model_of(TURBO, dtype)
            contenders[f"only unpadded, {label}"] = partial(run_plain, plain, lengths)
            contenders[f"jina-rerank, {label}"] = partial(run_engine, engine(TURBO, dtype), lengths)
        contenders[FLOOR] = partial(MatrixProducts(TURBO, torch.bfloat16).run, lengths)
        if quick:
            del contenders[ORIGINAL], contenders[FLASHRANK], contenders[FASTEMBED]
        result = Result("chunks", f"100 chunks, {sum(lengths):,} tokens, turbo's shape")
        result.seconds = interleave(contenders, rounds)
    if not quick:
        ours = result.median(OURS)
        ort = min(result.median(ONNX), result.median(ONNX_INT8))
        result.targets = [
            Target("times as fast as the original's way", 30, result.median(ORIGINAL) / ours),
            Target("times as fast as ONNX Runtime's best", 5, ort / ours),
            Target("times as fast as OpenVINO bfloat16", 1.5, result.median(OPENVINO_BF16) / ours),
            Target("of the floor's speed", 0.7, result.median(FLOOR) / ours),
        ]
    return result


def exported(checkpoint: Path, lengths: list[int]) -> dict[str, Contender]:
    """Runtimes that take an exported graph.

    Args:
        checkpoint: The folder of the model.
        lengths: Tokens of the pairs.
    """
    model = export_onnx(checkpoint, checkpoint.parent / "onnx")
    int8 = export_onnx(checkpoint, checkpoint.parent / "int8", int8=True)
    check_that_all_agree(checkpoint, model)
    ort = onnx_runtime(model)
    return {
        FLASHRANK: partial(run_batches, ort, lengths, len(lengths), by_length=False),
        FASTEMBED: partial(run_batches, ort, lengths, 64, by_length=False),
        ONNX: partial(run_batches, ort, lengths, BATCH, by_length=True),
        ONNX_INT8: partial(run_batches, onnx_runtime(int8), lengths, BATCH, by_length=True),
        OPENVINO: partial(run_batches, openvino(model, "f32"), lengths, BATCH, by_length=True),
        OPENVINO_BF16: partial(
            run_batches, openvino(model, "bf16"), lengths, BATCH, by_length=True
        ),
    }


def check_that_all_agree(checkpoint: Path, model: Path) -> None:
    """See that the contenders compute the same model.

    Args:
        checkpoint: Its folder.
        model: Its graph.
    """
    import numpy as np

    from jina_rerank.encoders import JinaBert

    (batch,) = padded_batches([30, 20, 7], 3, by_length=False)
    ours = JinaBert.from_pretrained(checkpoint)(
        torch.from_numpy(batch["input_ids"]), torch.from_numpy(batch["attention_mask"])
    )
    for other in (OriginalsWay(TURBO), onnx_runtime(model), openvino(model, "f32")):
        theirs = other(batch)
        if not isinstance(theirs, torch.Tensor):
            theirs = theirs[0]  # type: ignore[index]
        np.testing.assert_allclose(np.asarray(theirs).reshape(-1), ours.numpy(), atol=1e-4)


def with_texts(folder: Path, lengths: list[int]) -> dict[str, Contender]:
    """Rerankers that take texts: ours, and sentence-transformers on a BERT of the same shape.

    Args:
        folder: Holds turbo/; where the BERT is put.
        lengths: Tokens of the pairs.
    """
    query, documents = Texts().pairs(lengths)
    bert = str(save_transformer(folder / "bert", bert_config(6)))
    pairs = [(query, document) for document in documents]
    contenders: dict[str, Contender] = {}
    for dtype in ("float32", "bfloat16"):
        theirs = CrossEncoder(bert, device="cpu", model_kwargs={"dtype": dtype})
        contenders[f"sentence-transformers, {dtype}, from text"] = partial(
            theirs.predict, pairs, show_progress_bar=False
        )
        ours = Reranker(LocalScorer(folder / "turbo", dtype=dtype, max_length=512))
        ours.warm_up()
        contenders[f"jina-rerank, {dtype}, from text"] = partial(ours.rank, query, documents)
    return contenders

"""One query and 100 chunks of 24 to 512 tokens, turbo's shape, beside every rival."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder

from jina_rerank.onnx.export import export_onnx

from . import ours, rivals
from .measuring import Contender, Result, Target, interleave
from .peers import (
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
        turbo = save_jinabert(folder / "turbo")
        graph = export_onnx(turbo, folder / "onnx")
        check_that_all_agree(turbo, graph)
        others = rivals.of_checkpoint(turbo, graph, lengths)
        ort = onnx_runtime(graph)
        contenders: dict[str, Contender] = {
            ORIGINAL: partial(original.run, lengths, by_length=False),
            "the original's way, sorted by length": partial(original.run, lengths, by_length=True),
            FLASHRANK: partial(run_batches, ort, lengths, len(lengths), by_length=False),
            FASTEMBED: partial(run_batches, ort, lengths, 64, by_length=False),
            **others.contenders,
            **with_texts(turbo, folder / "bert", lengths),
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
    result.figures = others.figures()
    result.targets = ours.targets(result, others.contenders)
    if not quick:
        result.targets += targets(result)
    return result


def targets(result: Result) -> list[Target]:
    """List the targets that were set before there was int8.

    Args:
        result: With all seconds.
    """
    own = result.median(OURS)
    onnx = (rivals.ONNX, rivals.ONNX_DYNAMIC, rivals.ONNX_STATIC)
    found = [
        Target("times as fast as the original's way", 30, result.median(ORIGINAL) / own),
        Target(
            "times as fast as ONNX Runtime's best",
            5,
            min(result.median(label) for label in onnx) / own,
        ),
        Target("of the floor's speed", 0.7, result.median(FLOOR) / own),
    ]
    if rivals.OPENVINO_BF16 in result.seconds:
        ratio = result.median(rivals.OPENVINO_BF16) / own
        found.insert(2, Target("times as fast as OpenVINO bfloat16", 1.5, ratio))
    return found


def check_that_all_agree(checkpoint: Path, model: Path) -> None:
    """See that the contenders compute the same model.

    Args:
        checkpoint: Its folder.
        model: Its graph.
    """
    import numpy as np

    from jina_rerank.encoders import JinaBert

    (batch,) = padded_batches([30, 20, 7], 3, by_length=False)
    expected = JinaBert.from_pretrained(checkpoint)(
        torch.from_numpy(batch["input_ids"]), torch.from_numpy(batch["attention_mask"])
    )
    for other in (OriginalsWay(TURBO), onnx_runtime(model), openvino(model, "f32")):
        theirs = other(batch)
        if not isinstance(theirs, torch.Tensor):
            theirs = theirs[0]  # type: ignore[index]
        np.testing.assert_allclose(np.asarray(theirs).reshape(-1), expected.numpy(), atol=1e-4)


def with_texts(turbo: Path, bert: Path, lengths: list[int]) -> dict[str, Contender]:
    """Rerankers that take texts: ours, and sentence-transformers on a BERT of the same shape.

    Args:
        turbo: The checkpoint's folder.
        bert: Where the BERT is put.
        lengths: Tokens of the pairs.
    """
    query, documents = Texts().pairs(lengths)
    save_transformer(bert, bert_config(6))
    pairs = [(query, document) for document in documents]
    contenders: dict[str, Contender] = {}
    for dtype in ("float32", "bfloat16"):
        theirs = CrossEncoder(str(bert), device="cpu", model_kwargs={"dtype": dtype})
        contenders[f"{rivals.THEIRS}, {dtype}, from text"] = partial(
            theirs.predict, pairs, show_progress_bar=False
        )
    return contenders | ours.from_text(turbo, query, documents)

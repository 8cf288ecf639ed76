"""100 chunks as on a processor without bfloat16 units; `python -m benchmarks` caps it.

oneDNN (which torch and OpenVINO bring, each its own) and MKL obey variables of the environment.
ONNX Runtime's own kernels know no such variable, but have none for matrix units in float32.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import torch

from .measuring import Contender, Result, Target, interleave
from .shapes import TURBO, bert_config, engine, run_engine, save_jinabert, save_transformer
from .chunks import FASTEMBED, FLASHRANK, ONNX, ONNX_INT8, OPENVINO, OPENVINO_BF16, exported
from .work import Texts, chunk_lengths

OURS = "jina-rerank, float32"
OURS_INT8 = "jina-rerank, OnnxScorer on an int8 export, from text"


def measure(rounds: int, *, quick: bool) -> Result:
    """All contenders, interleaved.

    Args:
        rounds: Rounds that count.
        quick: Fewer documents.
    """
    from sentence_transformers import CrossEncoder

    from jina_rerank import Reranker
    from jina_rerank.scorers.onnx import OnnxScorer

    lengths = chunk_lengths(20 if quick else 100)
    query, documents = Texts().pairs(lengths)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contenders: dict[str, Contender] = exported(save_jinabert(folder / "turbo"), lengths)
        for other in (FLASHRANK, FASTEMBED, OPENVINO_BF16):
            del contenders[other]
        theirs = CrossEncoder(str(save_transformer(folder / "bert", bert_config(6))), device="cpu")
        pairs = [(query, document) for document in documents]
        contenders["sentence-transformers, float32, from text"] = partial(
            theirs.predict, pairs, show_progress_bar=False
        )
        contenders[OURS] = partial(run_engine, engine(TURBO, torch.float32), lengths)
        onnx = Reranker(OnnxScorer(folder / "int8", max_length=512))
        onnx.warm_up()
        contenders[OURS_INT8] = partial(onnx.rank, query, documents)
        result = Result("without_bfloat16", f"{len(lengths)} chunks, {sum(lengths):,} tokens, without bfloat16 units")
        result.seconds = interleave(contenders, rounds)
    best = min(result.median(name) for name in (ONNX, OPENVINO))
    result.targets = [
        Target("times as fast as the best float32 peer", 1.1, best / result.median(OURS)),
        Target(
            "times as fast as ONNX Runtime int8, which it is, tokenization included",
            0.9,
            result.median(ONNX_INT8) / result.median(OURS_INT8),
        ),
    ]
    return result

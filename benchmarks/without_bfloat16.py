"""100 chunks as on a processor without bfloat16 units; `python -m benchmarks` caps it.

oneDNN (which torch and OpenVINO bring, each its own) and MKL obey variables of the environment.
ONNX Runtime's own kernels know no such variable: they have none for matrix units in float32, but
with AMX their int8 ones use it.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from sentence_transformers import CrossEncoder

from jina_rerank import Reranker
from jina_rerank.onnx.export import export_onnx
from jina_rerank.scorers.onnx import OnnxScorer

from . import ours, rivals
from .measuring import Contender, Result, Target, interleave
from .shapes import bert_config, save_jinabert, save_transformer
from .work import MAX_LENGTH, Texts, chunk_lengths

ONNX_SCORER = "jina-rerank, OnnxScorer on an int8 export, from text"
DTYPES = tuple(dtype for dtype in ours.DTYPES if dtype != "bfloat16")


def measure(rounds: int, *, quick: bool) -> Result:
    """Turbo's shape and MiniLM-L6's, one after the other, the contenders of each interleaved.

    Args:
        rounds: Rounds that count.
        quick: Fewer documents.
    """
    lengths = chunk_lengths(20 if quick else 100)
    result = Result(
        "without_bfloat16",
        f"{len(lengths)} chunks, {sum(lengths):,} tokens, without bfloat16 units",
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bert = save_transformer(folder / "bert", bert_config(6))
        for shape, saved in {
            "turbo": save_jinabert(folder / "turbo"),
            "ms-marco-MiniLM-L6": bert,
        }.items():
            graph = export_onnx(saved, folder / f"{saved.name}-onnx")
            others = rivals.of_checkpoint(saved, graph, lengths)
            contenders = others.contenders | with_texts(saved, bert, lengths)
            prefix = f"{shape}: "
            for label, times in interleave(contenders, rounds).items():
                result.seconds[prefix + label] = times
            result.figures |= others.figures(prefix)
            own = result.median(prefix + ours.label("float32"))
            best = min(result.median(prefix + label) for label in (rivals.ONNX, rivals.OPENVINO))
            result.targets += [
                Target(f"{prefix}float32, times as fast as the best float32 peer", 1.1, best / own),
                *ours.targets(result, others.contenders, prefix),
            ]
    return result


def with_texts(saved: Path, bert: Path, lengths: list[int]) -> dict[str, Contender]:
    """Load sentence-transformers and ours.

    Args:
        saved: The checkpoint's folder.
        bert: The one that sentence-transformers runs, of the same shape.
        lengths: Tokens of the pairs.
    """
    query, documents = Texts().pairs(lengths)
    pairs = [(query, document) for document in documents]
    theirs = CrossEncoder(str(bert), device="cpu")
    int8 = saved.with_name(f"{saved.name}-int8")
    export_onnx(saved, int8, int8=True)
    onnx = Reranker(OnnxScorer(int8, max_length=MAX_LENGTH))
    onnx.warm_up()
    return {
        f"{rivals.THEIRS}, float32, from text": partial(
            theirs.predict, pairs, show_progress_bar=False
        ),
        ONNX_SCORER: partial(onnx.rank, query, documents),
        **ours.from_text(saved, query, documents, DTYPES),
    }

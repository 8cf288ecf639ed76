"""Rerankers of other families: our engine beside sentence-transformers, ONNX Runtime and OpenVINO.

Random weights of the shapes of published models, the chunks of `chunks`. All read the embedded model's
tokens, so that their work is the same. sentence-transformers gets texts, and sorts and pads by
itself; so do we. ONNX Runtime and OpenVINO get token ids, sorted, in batches of 32: no time of
theirs goes into tokens.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import transformers
from sentence_transformers import CrossEncoder

from jina_rerank import LocalScorer, Reranker
from jina_rerank.onnx.export import export_onnx
from jina_rerank.scorers.device import Dtype

from .measuring import Contender, Result, Target, interleave
from .peers import BATCH, onnx_runtime, openvino, run_batches
from .shapes import VOCABULARY, bert_config, save_transformer
from .work import Texts, chunk_lengths

OURS = "jina-rerank"
THEIRS = "sentence-transformers"
DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16")


def bge_config() -> transformers.XLMRobertaConfig:
    """The shape of bge-reranker-base: XLM-RoBERTa base."""
    return transformers.XLMRobertaConfig(
        vocab_size=VOCABULARY, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
        intermediate_size=3072, max_position_embeddings=514, type_vocab_size=1, pad_token_id=0,
    )  # fmt: skip


def modernbert_config(
    *, hidden: int, layers: int, heads: int, units: int
) -> transformers.ModernBertConfig:
    """A ModernBERT.

    Args:
        hidden: The hidden size.
        layers: How many.
        heads: Attention heads.
        units: Units of the feed-forward, behind the gate.
    """
    return transformers.ModernBertConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, num_hidden_layers=layers,
        num_attention_heads=heads, intermediate_size=units, pad_token_id=0, cls_token_id=2,
        sep_token_id=3, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip


SHAPES: dict[str, Callable[[], transformers.PreTrainedConfig]] = {
    "ms-marco-MiniLM-L6": partial(bert_config, 6),
    "Ettin-17m": partial(modernbert_config, hidden=256, layers=7, heads=4, units=384),
    "bge-reranker-base": bge_config,
    "gte-reranker-modernbert-base": partial(
        modernbert_config, hidden=768, layers=22, heads=12, units=1152
    ),
}


def measure(rounds: int, *, quick: bool) -> Result:
    """Measure all shapes, one after another, the contenders of each interleaved.

    Args:
        rounds: Rounds that count.
        quick: Fewer documents, and the two small shapes only.
    """
    lengths = chunk_lengths(20 if quick else 100)
    result = Result("families", f"{len(lengths)} chunks, {sum(lengths):,} tokens, other families")
    for name, shape in list(SHAPES.items())[: 2 if quick else None]:
        with tempfile.TemporaryDirectory() as folder:
            saved = save_transformer(Path(folder) / "model", shape())
            seconds = interleave(contenders(saved, lengths), rounds)
        for label, times in seconds.items():
            result.seconds[f"{name}: {label}"] = times
        result.targets += targets(result, name)
    return result


def contenders(saved: Path, lengths: list[int]) -> dict[str, Contender]:
    """Build the contenders that run a checkpoint.

    Args:
        saved: Its folder.
        lengths: Tokens of the pairs.
    """
    query, documents = Texts().pairs(lengths)
    pairs = [(query, document) for document in documents]
    found: dict[str, Contender] = {}
    for dtype in DTYPES:
        ours = Reranker(LocalScorer(saved, dtype=dtype, max_length=512))
        ours.warm_up()
        found[f"{OURS}, {dtype}"] = partial(ours.rank, query, documents)
        theirs = CrossEncoder(str(saved), device="cpu", model_kwargs={"dtype": dtype})
        found[f"{THEIRS}, {dtype}"] = partial(theirs.predict, pairs, show_progress_bar=False)
    graph = export_onnx(saved, saved.parent / "onnx")
    for label, run in {
        "ONNX Runtime, float32": onnx_runtime(graph),
        "OpenVINO, float32": openvino(graph, "f32"),
        "OpenVINO, bfloat16": openvino(graph, "bf16"),
    }.items():
        found[label] = partial(run_batches, run, lengths, BATCH, by_length=True)
    return found


def targets(result: Result, name: str) -> list[Target]:
    """Compare one shape's medians with the aims.

    Args:
        result: With all seconds.
        name: The shape.
    """

    def median(label: str) -> float:
        return result.median(f"{name}: {label}")

    ours = min(median(f"{OURS}, {dtype}") for dtype in DTYPES)
    theirs = min(median(f"{THEIRS}, {dtype}") for dtype in DTYPES)
    openvino_bf16 = median("OpenVINO, bfloat16")
    return [
        Target(f"{name}: times as fast as {THEIRS}' better dtype", 2, theirs / ours),
        Target(f"{name}: times as fast as its default", 4, median(f"{THEIRS}, float32") / ours),
        Target(f"{name}: times as fast as OpenVINO bfloat16", 1, openvino_bf16 / ours),
    ]

"""Rerankers of other families: our engine beside sentence-transformers and the other rivals.

Random weights of the shapes of published models, the chunks of `chunks`. All read the embedded
model's tokens, so that their work is the same. sentence-transformers gets texts, and sorts and pads
by itself; so do we. The others are those of `rivals`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import transformers
from sentence_transformers import CrossEncoder

from jina_rerank.onnx.export import export_onnx

from . import ours
from .measuring import Contender, Result, Target, interleave
from .rivals import OPENVINO_BF16, THEIRS, Rivals, of_checkpoint
from .shapes import VOCABULARY, bert_config, bge_config, save_transformer
from .work import Texts, chunk_lengths

THEIR_DTYPES = ("float32", "bfloat16")


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
            others = of_checkpoint(saved, export_onnx(saved, saved.parent / "onnx"), lengths)
            seconds = interleave(others.contenders | with_texts(saved, lengths), rounds)
        for label, times in seconds.items():
            result.seconds[f"{name}: {label}"] = times
        result.figures |= others.figures(f"{name}: ")
        result.targets += targets(result, f"{name}: ", others)
    return result


def with_texts(saved: Path, lengths: list[int]) -> dict[str, Contender]:
    """Load sentence-transformers and ours.

    Args:
        saved: The checkpoint's folder.
        lengths: Tokens of the pairs.
    """
    query, documents = Texts().pairs(lengths)
    pairs = [(query, document) for document in documents]
    found: dict[str, Contender] = {}
    for dtype in THEIR_DTYPES:
        theirs = CrossEncoder(str(saved), device="cpu", model_kwargs={"dtype": dtype})
        found[f"{THEIRS}, {dtype}, from text"] = partial(
            theirs.predict, pairs, show_progress_bar=False
        )
    return found | ours.from_text(saved, query, documents)


def targets(result: Result, prefix: str, others: Rivals) -> list[Target]:
    """Compare one shape's medians with the aims.

    Args:
        result: With all seconds.
        prefix: The shape, as it stands before labels.
        others: The runtimes.
    """

    def theirs(dtype: str) -> float:
        return result.median(f"{prefix}{THEIRS}, {dtype}, from text")

    # These aims are older than int8, and of the dtypes that keep a ranking as it is.
    own = min(result.median(prefix + ours.label(dtype)) for dtype in THEIR_DTYPES)
    better = min(theirs(dtype) for dtype in THEIR_DTYPES)
    found = [
        Target(f"{prefix}times as fast as {THEIRS}' better dtype", 2, better / own),
        Target(f"{prefix}times as fast as its default", 4, theirs("float32") / own),
    ]
    if OPENVINO_BF16 in others.contenders:
        openvino = result.median(prefix + OPENVINO_BF16)
        found.append(Target(f"{prefix}times as fast as OpenVINO bfloat16", 1, openvino / own))
    return found + ours.targets(result, others.contenders, prefix)

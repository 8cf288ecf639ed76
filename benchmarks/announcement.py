"""Pairs a second for the shapes of the models in the announcement of turbo and tiny.

Our engine runs all whose family it has, sentence-transformers DeBERTa, each in the faster of
float32 and bfloat16, from text, on the chunks of `chunks`. Random weights: the report puts the
announcement's quality figures beside them.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import transformers
from sentence_transformers import CrossEncoder

from jina_rerank.encoders import EncoderModel, JinaBertConfig
from jina_rerank.scorers.device import Dtype

from . import ours
from .measuring import Contender, Result, Target, interleave
from .rivals import THEIRS
from .shapes import (
    BASE,
    TINY,
    TURBO,
    VOCABULARY,
    bert_config,
    bge_config,
    save_jinabert,
    save_transformer,
)
from .work import Texts, chunk_lengths

JINABERT: dict[str, JinaBertConfig] = {
    "jina-reranker-v1-base-en": BASE,
    "jina-reranker-v1-turbo-en": TURBO,
    "jina-reranker-v1-tiny-en": TINY,
}

DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16")
"""In which a model ranks as its makers measured it."""


def deberta_configs() -> dict[str, transformers.PreTrainedConfig]:
    """The shapes of mxbai's models, as their configurations on the hub are remembered, not read.

    They have the embedded model's vocabulary, since they read its tokens.
    """
    deberta = {
        "vocab_size": VOCABULARY, "num_hidden_layers": 12, "relative_attention": True,
        "position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
        "max_relative_positions": -1, "type_vocab_size": 0,
    }  # fmt: skip
    xsmall = transformers.DebertaV2Config.from_dict(
        {**deberta, "hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
    )
    base = transformers.DebertaV2Config.from_dict(
        {**deberta, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
    )
    return {"mxbai-rerank-base-v1": base, "mxbai-rerank-xsmall-v1": xsmall}


def native_configs() -> dict[str, transformers.PreTrainedConfig]:
    """The shapes of other makers' models that our engine runs."""
    return {
        "ms-marco-MiniLM-L-6-v2": bert_config(6),
        "ms-marco-MiniLM-L-4-v2": bert_config(4),
        "bge-reranker-base": bge_config(),
    }


def save_all(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Checkpoints of all shapes: those that our engine runs, and the others.

    Args:
        folder: Where to.
    """
    own = {name: save_jinabert(folder / name, shape) for name, shape in JINABERT.items()}
    for name, config in native_configs().items():
        own[name] = save_transformer(folder / name, config)
    deberta = {
        name: save_transformer(folder / name, config) for name, config in deberta_configs().items()
    }
    return own, deberta


def faster(runs: dict[str, Contender], trials: dict[str, Contender]) -> tuple[str, Contender]:
    """The label and the contender that a short trial was faster for.

    Args:
        runs: By label.
        trials: A small part of the work of each.
    """
    seconds = interleave(trials, 2)
    best = min(seconds, key=lambda label: min(seconds[label]))
    return best, runs[best]


def in_sentence_transformers(saved: Path, pairs: list[tuple[str, str]]) -> dict[str, Contender]:
    """Load it in each dtype.

    Args:
        saved: The checkpoint's folder.
        pairs: Queries and documents.
    """
    return {
        f"{THEIRS}, {dtype}": partial(
            CrossEncoder(str(saved), device="cpu", model_kwargs={"dtype": dtype}).predict,
            pairs,
            show_progress_bar=False,
        )
        for dtype in DTYPES
    }


def measure(rounds: int, *, quick: bool) -> Result:
    """All shapes, interleaved.

    Args:
        rounds: Rounds that count.
        quick: Fewer documents.
    """
    lengths = chunk_lengths(20 if quick else 100)
    query, documents = Texts().pairs(lengths)
    few = documents[:10]
    contenders: dict[str, Contender] = {}
    result = Result("announcement", f"{len(lengths)} chunks, {sum(lengths):,} tokens")
    with tempfile.TemporaryDirectory() as folder:
        own, deberta = save_all(Path(folder))
        for name, saved in own.items():
            engine, contenders[name] = faster(
                ours.from_text(saved, query, documents, DTYPES),
                ours.from_text(saved, query, few, DTYPES),
            )
            result.figures[f"engine, {name}"] = engine.removesuffix(", from text")
        for name, saved in deberta.items():
            engine, contenders[name] = faster(
                in_sentence_transformers(saved, [(query, document) for document in documents]),
                in_sentence_transformers(saved, [(query, document) for document in few]),
            )
            result.figures[f"engine, {name}"] = engine
        for name in JINABERT:
            parameters = EncoderModel.from_pretrained(own[name]).parameters()
            millions = sum(tensor.numel() for tensor in parameters) / 1e6
            result.figures[f"million parameters, {name}"] = millions
        result.seconds = interleave(contenders, rounds)
    for name in contenders:
        result.figures[f"pairs a second, {name}"] = len(lengths) / result.median(name)
    base, turbo, tiny = (result.median(name) for name in JINABERT)
    result.targets = [
        Target("turbo, times as fast as base", 3, base / turbo),
        Target("tiny, times as fast as base", 5, base / tiny),
    ]
    return result

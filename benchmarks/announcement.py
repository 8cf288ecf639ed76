"""Pairs a second for the shapes of the models in the announcement of turbo and tiny.

JinaBERT's three shapes run on our engine, the others in sentence-transformers at their best, on
the chunks of `chunks`. Random weights: the report puts the announcement's quality figures beside them.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import torch
import transformers
from sentence_transformers import CrossEncoder

from jina_rerank.encoders import JinaBertConfig

from .measuring import Contender, Result, Target, interleave
from .shapes import (
    BASE,
    TINY,
    TURBO,
    VOCABULARY,
    bert_config,
    engine,
    model_of,
    run_engine,
    save_transformer,
)
from .work import Texts, chunk_lengths

JINABERT: dict[str, JinaBertConfig] = {
    "jina-reranker-v1-base-en": BASE,
    "jina-reranker-v1-turbo-en": TURBO,
    "jina-reranker-v1-tiny-en": TINY,
}


def others() -> dict[str, transformers.PreTrainedConfig]:
    """The other models' shapes, as their configurations on the hub are remembered, not read.

    All have the embedded model's vocabulary, since they read its tokens.
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
    roberta = transformers.XLMRobertaConfig(
        vocab_size=VOCABULARY, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
        intermediate_size=3072, max_position_embeddings=514, type_vocab_size=1,
    )  # fmt: skip
    return {
        "mxbai-rerank-base-v1": base,
        "mxbai-rerank-xsmall-v1": xsmall,
        "ms-marco-MiniLM-L-6-v2": bert_config(6),
        "ms-marco-MiniLM-L-4-v2": bert_config(4),
        "bge-reranker-base": roberta,
    }


def faster(saved: str, pairs: list[tuple[str, str]]) -> tuple[str, Contender]:
    """A model in sentence-transformers in the dtype that is faster for it, by a short trial.

    Args:
        saved: Its folder.
        pairs: What it will be given.
    """
    seconds: dict[str, float] = {}
    runs: dict[str, Contender] = {}
    for dtype in ("float32", "bfloat16"):
        model = CrossEncoder(saved, device="cpu", model_kwargs={"dtype": dtype})
        runs[dtype] = partial(model.predict, pairs, show_progress_bar=False)
        trial = interleave({dtype: partial(model.predict, pairs[:10])}, 2)
        seconds[dtype] = min(trial[dtype])
    best = min(seconds, key=seconds.__getitem__)
    return best, runs[best]


def measure(rounds: int, *, quick: bool) -> Result:
    """All shapes, interleaved, ours in bfloat16.

    Args:
        rounds: Rounds that count.
        quick: Fewer documents.
    """
    lengths = chunk_lengths(20 if quick else 100)
    query, documents = Texts().pairs(lengths)
    pairs = [(query, document) for document in documents]
    contenders: dict[str, Contender] = {}
    result = Result("announcement", f"{len(lengths)} chunks, {sum(lengths):,} tokens")
    for name, config in JINABERT.items():
        contenders[name] = partial(run_engine, engine(config, torch.bfloat16), lengths)
        parameters = sum(p.numel() for p in model_of(config, torch.bfloat16).parameters())
        result.figures[f"million parameters, {name}"] = parameters / 1e6
    with tempfile.TemporaryDirectory() as folder:
        for name, shape in others().items():
            saved = str(save_transformer(Path(folder) / name, shape))
            dtype, contenders[name] = faster(saved, pairs)
            result.figures[f"the faster dtype, {name}"] = dtype
        result.seconds = interleave(contenders, rounds)
    for name in contenders:
        result.figures[f"pairs a second, {name}"] = len(lengths) / result.median(name)
    base = result.median("jina-reranker-v1-base-en")
    result.targets = [
        Target("turbo, times as fast as base", 3, base / result.median(list(JINABERT)[1])),
        Target("tiny, times as fast as base", 5, base / result.median(list(JINABERT)[2])),
    ]
    return result

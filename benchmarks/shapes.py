"""Models of the right shapes with random weights: enough for speed, and for nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from jina_rerank.embedded import embedded_model_folder
from jina_rerank.encoders import JinaBert, JinaBertConfig, pack
from jina_rerank.encoders.cpu import CpuEngine
from jina_rerank.scorers._pair_model import TOKENS_PER_BATCH

VOCABULARY = 30522
"""That of the embedded model's tokenizer, with which all peers read the same tokens. Jina's own
vocabularies are twice as large, which costs memory and no time."""

TURBO = JinaBertConfig(vocab_size=VOCABULARY)
TINY = JinaBertConfig(vocab_size=VOCABULARY, num_hidden_layers=4)
BASE = JinaBertConfig(
    vocab_size=VOCABULARY, hidden_size=768, num_hidden_layers=12, intermediate_size=3072
)


def state_of(config: JinaBertConfig) -> dict[str, Tensor]:
    """Random weights, the same every time.

    Args:
        config: The shape.
    """
    torch.manual_seed(0)
    return JinaBert(config).state_dict()


def model_of(config: JinaBertConfig, dtype: torch.dtype) -> JinaBert:
    """A model with the random weights.

    Args:
        config: The shape.
        dtype: What to compute in.
    """
    model = JinaBert(config).eval().requires_grad_(False)
    model.load_state_dict(state_of(config))
    return model.to(dtype)


def engine(config: JinaBertConfig, dtype: torch.dtype) -> CpuEngine:
    """The forward pass as `LocalScorer` runs it on a CPU.

    Args:
        config: The shape.
        dtype: What to compute in.
    """
    return CpuEngine(model_of(config, dtype))


def run_engine(model: CpuEngine, lengths: Sequence[int]) -> None:
    """All pairs in batches of the engine's size, longest first.

    Args:
        model: The forward pass.
        lengths: Tokens of the pairs.
    """
    _run_packed(model, lengths, model.batch_tokens)


def run_plain(model: JinaBert, lengths: Sequence[int]) -> None:
    """The same with the model's own layers, divided among threads by torch.

    Args:
        model: Their model.
        lengths: Tokens of the pairs.
    """
    _run_packed(model.forward_packed, lengths, TOKENS_PER_BATCH)


def _run_packed(
    forward: Callable[[Tensor, Sequence[int]], Tensor], lengths: Sequence[int], tokens: int
) -> None:
    with torch.inference_mode():
        for group in pack(lengths, tokens):
            batch = [lengths[i] for i in group]
            forward(torch.ones(sum(batch), dtype=torch.int32), batch)


def save_jinabert(folder: Path, config: JinaBertConfig = TURBO) -> Path:
    """A checkpoint folder of a shape, in float32, with the embedded model's tokenizer.

    Args:
        folder: Where to.
        config: The shape.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state_of(config), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    shutil.copy(embedded_model_folder() / "tokenizer.json", folder)
    return folder


def save_transformer(folder: Path, config: transformers.PreTrainedConfig) -> Path:
    """A cross-encoder of another architecture, with the embedded model's tokenizer.

    Args:
        folder: Where to.
        config: The shape.
    """
    torch.manual_seed(0)
    config.num_labels = 1
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(folder)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(embedded_model_folder() / "tokenizer.json"),
        model_max_length=512,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
    )
    tokenizer.save_pretrained(folder)
    return folder


def bert_config(layers: int, hidden: int = 384) -> transformers.BertConfig:
    """A BERT's: with 6 layers that of ms-marco-MiniLM-L6, which is turbo's but for the gate.

    Args:
        layers: How many.
        hidden: The hidden size; heads and intermediate size follow from it.
    """
    return transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=12,
        intermediate_size=4 * hidden,
        # As in published configurations; transformers keeps it unread, CTranslate2 asks for it.
        position_embedding_type="absolute",  # type: ignore[call-arg]
    )


def bge_config() -> transformers.XLMRobertaConfig:
    """The shape of bge-reranker-base: XLM-RoBERTa base."""
    return transformers.XLMRobertaConfig(  # type: ignore[call-arg] # as in bert_config
        vocab_size=VOCABULARY, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
        intermediate_size=3072, max_position_embeddings=514, type_vocab_size=1, pad_token_id=0,
        position_embedding_type="absolute",
    )  # fmt: skip

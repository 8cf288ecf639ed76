"""Small random rerankers of each family, as transformers and sentence-transformers save them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from checkpoints import bpe_tokenizer, wordpiece_tokenizer
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

SHAPE = {
    "vocab_size": 400,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "num_labels": 1,
}

MODERN = {
    "pad_token_id": 1,
    "bos_token_id": 0,
    "cls_token_id": 0,
    "eos_token_id": 2,
    "sep_token_id": 2,
    "local_attention": 32,
}

KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "bert": ("Bert", {}),
    "bert with ReLU": ("Bert", {"hidden_act": "relu"}),
    "xlm-roberta": ("XLMRoberta", {"max_position_embeddings": 514}),
    "roberta": ("Roberta", {"max_position_embeddings": 514, "type_vocab_size": 1}),
    "modernbert": ("ModernBert", MODERN),
    "modernbert, mean": ("ModernBert", {**MODERN, "classifier_pooling": "mean"}),
    "modernbert, last layer local": ("ModernBert", {**MODERN, "num_hidden_layers": 2}),
    "modernbert with biases": (
        "ModernBert",
        {
            **MODERN,
            "norm_bias": True,
            "attention_bias": True,
            "mlp_bias": True,
            "classifier_bias": True,
            "classifier_activation": "tanh",
        },
    ),
}
"""By name: the prefix of transformers' classes, and what differs from `SHAPE`."""


def write_reranker(folder: Path, kind: str, **changes: object) -> PreTrainedModel:
    """Save a random reranker of a kind; gives transformers' model, in float64.

    Args:
        folder: Where to.
        kind: One of `KINDS`.
        changes: To the shape.
    """
    prefix, own = KINDS[kind]
    config = getattr(transformers, f"{prefix}Config")(**{**SHAPE, **own, **changes})
    torch.manual_seed(0)
    model = getattr(transformers, f"{prefix}ForSequenceClassification")(config).eval()
    _roughen(model)
    model.save_pretrained(folder)
    wordpiece = prefix == "Bert"
    tokenizer = wordpiece_tokenizer() if wordpiece else bpe_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    return model.double().requires_grad_(False)


def write_bert(folder: Path) -> Path:
    """Save a random BERT reranker with its tokenizer, as transformers saves one."""
    write_reranker(folder, "bert")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    return folder


def write_module_list(
    folder: Path, *, norm: bool = True, pooling: str = "cls", **changes: int
) -> CrossEncoder:
    """Save a random reranker of Ettin's kind; gives sentence-transformers' model, in float64."""
    encoder = folder.with_name(f"{folder.name}-encoder")
    torch.manual_seed(0)
    shape = {**SHAPE, **MODERN, **changes}
    del shape["num_labels"]
    model = transformers.ModernBertModel(transformers.ModernBertConfig(**shape))
    model.save_pretrained(encoder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe_tokenizer(), pad_token="<pad>", model_max_length=8192
    ).save_pretrained(encoder)
    hidden = changes.get("hidden_size", SHAPE["hidden_size"])
    head = [
        Pooling(hidden, pooling),
        Dense(hidden, hidden, activation_function=torch.nn.GELU()),
        *([LayerNorm(hidden)] if norm else []),
        Dense(hidden, 1, activation_function=torch.nn.Identity(), module_output_name="scores"),
    ]
    reranker = CrossEncoder(modules=[Transformer(str(encoder)), *head], device="cpu")
    _roughen(reranker)
    reranker.save(str(folder))
    return reranker.double().eval().requires_grad_(False)


def _roughen(model: torch.nn.Module) -> None:
    """Weights so large that logits differ between pairs, and no bias zero or gain one."""
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.normal_(0, 0.15)
        else:
            parameter.data.add_(0.1 * torch.randn_like(parameter))


def logits_of(model: PreTrainedModel | CrossEncoder, sequences: Sequence[Tensor]) -> Tensor:
    """The logit of each sequence alone, in float64."""
    return torch.stack([_logit(model, ids) for ids in sequences])


def _logit(model: PreTrainedModel | CrossEncoder, ids: Tensor) -> Tensor:
    features = {"input_ids": ids[None], "attention_mask": torch.ones_like(ids)[None]}
    with torch.inference_mode(), warnings.catch_warnings():
        if isinstance(model, CrossEncoder):
            return model.forward(features)["scores"].squeeze()
        return model(**features).logits.squeeze()

"""BERT encoders, read from a folder, from which students are converted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from torch import Tensor

from ...encoders import JinaBert, JinaBertConfig
from ...encoders.alibi import Slopes
from ...encoders.checkpoint import read_tensors
from ...encoders.families.jinabert import FeedForward
from ...encoders.files import find_checkpoint
from ...encoders.tokenizer import open_tokenizer
from ...errors import InputError, ModelLoadError

GATES: dict[str, FeedForward] = {"gelu": "geglu", "relu": "reglu"}


@dataclass(frozen=True, slots=True)
class BertEncoder:
    """A BERT encoder, read from a folder.

    Attributes:
        folder: The encoder's folder.
        config: Fields of its config.json.
        weights: Weights by transformers' names, without a prefix; float32.
    """

    folder: Path
    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the `config.json` and the weights of a folder.

        Raises:
            ModelLoadError: The folder does not hold a BERT encoder, or its feed-forward is neither
                erf GELU nor ReLU.
        """
        files = find_checkpoint(folder, tokenizer=False)
        weights = {
            # Copies: safetensors returns views of the file.
            _modern(name): tensor.to(torch.float32, copy=True)
            for path in files.weights
            for name, tensor in read_tensors(path).items()
        }
        return cls(folder, _read_config(files.config), weights)

    def reranker(
        self,
        slopes: Slopes,
        units: int | None,
        *,
        wider: int = 0,
        feed_forward: FeedForward | None = None,
    ) -> JinaBertConfig:
        """Compute the configuration of a reranker with the encoder's weights.

        Args:
            slopes: Kind of ALiBi slopes, see `convert_bert`.
            units: Number of units of each feed-forward; None for all.
            wider: Number of additional heads, see `bi_to_cross.layers`.
            feed_forward: Kind of feed-forward; None for a gated one with the encoder's activation.

        Raises:
            ModelLoadError: The encoder has fewer units, or `config.json` lacks a field.
        """
        given = self.config
        try:
            there = int(given["intermediate_size"])
            heads, hidden = int(given["num_attention_heads"]), int(given["hidden_size"])
            config = JinaBertConfig(
                vocab_size=given["vocab_size"],
                hidden_size=hidden + wider * (hidden // heads),
                num_hidden_layers=given["num_hidden_layers"],
                num_attention_heads=heads + wider,
                intermediate_size=units or there,
                type_vocab_size=given.get("type_vocab_size", 2),
                layer_norm_eps=given.get("layer_norm_eps", 1e-12),
                feed_forward_type=feed_forward or GATES[given["hidden_act"]],
                alibi_slopes=slopes,
            )
        except (KeyError, ValueError, TypeError) as error:
            raise ModelLoadError(
                f"{self.folder}: not a BERT encoder's config: {error!r}"
            ) from error
        if config.intermediate_size > there:
            raise ModelLoadError(
                f"{self.folder}: its feed-forward has {there} units, fewer than {units}"
            )
        return config


@contextmanager
def converting(source: Path) -> Iterator[None]:
    """Turn errors about missing or unexpected weights into errors that name the folder."""
    try:
        yield
    except KeyError as error:
        raise ModelLoadError(f"{source}: not a BERT encoder: lacks {error}") from None
    except RuntimeError as error:
        raise ModelLoadError(f"{source}: not a BERT encoder: {error}") from error
    except InputError as error:
        raise ModelLoadError(f"{source}: {error}") from error


def built(config: JinaBertConfig, state: Mapping[str, Tensor]) -> JinaBert:
    """Build a model with these weights."""
    with torch.device("meta"):
        model = JinaBert(config)
    model.load_state_dict(state, strict=True, assign=True)
    return model


def _modern(name: str) -> str:
    """Return a weight's present name: no prefix of models with a head, no TensorFlow names."""
    name = name.removeprefix("bert.")
    if name.endswith((".gamma", ".beta")):
        name = name.replace(".gamma", ".weight").replace(".beta", ".bias")
    return name


def _read_config(path: Path) -> dict[str, Any]:
    try:
        given = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(given, dict):
        raise ModelLoadError(f"{path}: is not a JSON object")
    kind = given.get("model_type"), given.get("position_embedding_type", "absolute")
    if kind != ("bert", "absolute"):
        raise ModelLoadError(
            f"{path}: not a BERT encoder (model_type {kind[0]!r}, positions {kind[1]!r})"
        )
    if given.get("hidden_act") not in GATES:
        raise ModelLoadError(
            f"{path}: hidden_act must be one of {sorted(GATES)}, not {given.get('hidden_act')!r}"
        )
    return given


def encoder_files(folder: Path) -> list[Path]:
    """List the files that `BertEncoder.read` and `read_tokenizer` read.

    Raises:
        ModelLoadError: The folder does not hold a model.
    """
    files = find_checkpoint(folder, tokenizer=False)
    others = (folder / name for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"))
    return [files.config, *files.weights, *(path for path in others if path.is_file())]


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read the encoder's tokenizer, with token types 0 for the query and 1 for the document.

    Raises:
        ModelLoadError: The folder has no tokenizer, or the tokenizer lacks a special token.
    """
    whole, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
    if not whole.is_file() and not vocabulary.is_file():
        raise ModelLoadError(f"{folder}: has neither {whole.name} nor {vocabulary.name}")
    try:
        tokenizer = (
            open_tokenizer(whole)
            if whole.is_file()
            else _from_vocabulary(vocabulary, folder / "tokenizer_config.json")
        )
    except Exception as error:  # the Rust side raises nothing narrower
        raise ModelLoadError(f"{folder}: its tokenizer cannot be read: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    special = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    if None in (number for _, number in special):
        raise ModelLoadError(f"{folder}: the vocabulary lacks [CLS] or [SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=special,
    )
    return tokenizer


def _from_vocabulary(vocabulary: Path, config: Path) -> Tokenizer:
    options = json.loads(config.read_text(encoding="utf-8-sig")) if config.is_file() else {}
    ids = {
        # A byte order mark is no part of the first token.
        token.removeprefix("\ufeff") if number == 0 else token: number
        for token, number in WordPiece.read_file(str(vocabulary)).items()
    }
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=options.get("do_lower_case", True),
        strip_accents=options.get("strip_accents"),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = WordPieceDecoder()
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    # A token that the vocabulary lacks would get an id for which the embedding has no row.
    tokenizer.add_special_tokens([t for t in special if tokenizer.token_to_id(t) is not None])
    return tokenizer

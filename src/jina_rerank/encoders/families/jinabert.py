"""JinaBERT: ALiBi, a gated feed-forward, BERT's names and head."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args

from ..alibi import Slopes, alibi_slopes
from ..architecture import Alibi, Architecture
from ..config_file import ConfigFile, positive
from .family import Description, Extras, Family, Source

FeedForward = Literal["geglu", "reglu", "original"]
Quantization = Literal["int8_rows"]

MODEL_TYPE = "jina_bert_reranker"
"""The model type of our own checkpoints. Jina's have `bert`, for which transformers loads a plain
BERT with a random feed-forward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JinaBertConfig:
    """The shape of a JinaBERT reranker; the defaults are jina-reranker-v1-turbo-en's.

    Attributes:
        vocab_size: Rows of the word embedding.
        hidden_size: Width of every token's vector.
        num_hidden_layers: Number of transformer layers.
        num_attention_heads: Number of attention heads; divides `hidden_size`.
        intermediate_size: Units of the feed-forward: its width, after the gate if it has one.
        type_vocab_size: Number of token types.
        text_positions: Number of places in a run of one token type that have different token type
            embeddings. The embedding has this number of rows for each type, and further places use
            the last row. 1 in Jina's models, which have positions in ALiBi only.
        layer_norm_eps: Added to the variance in every layer norm.
        max_position_embeddings: Longest pair in tokens. ALiBi needs no table of this size: it
            is the length up to which the model was trained to be used.
        feed_forward_type: With a gate whose activation is erf GELU (`"geglu"`) or ReLU (`"reglu"`),
            or BERT's own, with erf GELU and no gate (`"original"`, its name in Jina's code).
        alibi_slopes: Variant of the slopes, see `alibi_slopes`.
        attention_window: Largest distance that a token attends to, in all layers but the last and
            in all heads but the one with the smallest slope. Pairs of up to twice as many tokens
            have no such limit. None without a limit, as in Jina's models.
        quantization: Storage of the matrices in `model.safetensors`; None if they are not
            quantized.
    """

    vocab_size: int = 61056
    hidden_size: int = 384
    num_hidden_layers: int = 6
    num_attention_heads: int = 12
    intermediate_size: int = 1536
    type_vocab_size: int = 2
    text_positions: int = 1
    layer_norm_eps: float = 1e-12
    max_position_embeddings: int = 8192
    feed_forward_type: FeedForward = "geglu"
    alibi_slopes: Slopes = "reranker"
    attention_window: int | None = None
    quantization: Quantization | None = None

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a checkpoint's `config.json`; fields that the model does not use are ignored.

        Raises:
            ModelLoadError: It cannot be read, or describes another kind of model.
        """
        file, default = ConfigFile(path), cls()
        _check_kind(file)
        hidden = file.integer("hidden_size", default.hidden_size)
        unlimited = file.values.get("attention_window") is None
        return cls(
            vocab_size=file.integer("vocab_size", default.vocab_size),
            hidden_size=hidden,
            num_hidden_layers=file.integer("num_hidden_layers", default.num_hidden_layers),
            num_attention_heads=file.heads(hidden, default.num_attention_heads),
            intermediate_size=file.integer("intermediate_size", default.intermediate_size),
            type_vocab_size=file.integer("type_vocab_size", default.type_vocab_size),
            text_positions=file.integer("text_positions", default.text_positions),
            layer_norm_eps=file.number("layer_norm_eps", default.layer_norm_eps),
            max_position_embeddings=file.integer(
                "max_position_embeddings", default.max_position_embeddings
            ),
            feed_forward_type=file.only(
                "feed_forward_type", default.feed_forward_type, get_args(FeedForward)
            ),
            alibi_slopes=file.only("alibi_slopes", default.alibi_slopes, get_args(Slopes)),
            attention_window=None if unlimited else file.integer("attention_window"),
            quantization=file.only("quantization", None, [None, *get_args(Quantization)]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Make the config.json that `from_file` reads, with the fields that identify a JinaBERT."""
        kind = {
            "architectures": ["JinaBertForSequenceClassification"],
            "model_type": MODEL_TYPE,
            "position_embedding_type": "alibi",
        }
        values = {**kind, **asdict(self)}
        return {name: value for name, value in values.items() if value is not None}

    def architecture(self) -> Architecture:
        """Describe the model for the forward pass and the engines."""
        layers, gated = self.num_hidden_layers, self.feed_forward_type != "original"
        slopes = alibi_slopes(self.num_attention_heads, self.alibi_slopes)
        return Architecture(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=self.intermediate_size,
            max_length=self.max_position_embeddings,
            layer_norm_eps=self.layer_norm_eps,
            positions=Alibi(tuple(slopes)),
            windows=(*[self.attention_window] * (layers - 1), None),
            token_types=self.type_vocab_size,
            text_positions=self.text_positions,
            activation="relu" if self.feed_forward_type == "reglu" else "gelu",
            gated=gated,
            units_bias=not gated,
        )

    def check(self) -> None:
        """Check a shape that does not come from a file, before a model is built with it.

        Raises:
            ValueError: A field is out of range; the message names it.
        """
        for name, value in self._sizes().items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, not {value!r}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        if positive(self.layer_norm_eps) is None:
            raise ValueError(
                f"layer_norm_eps must be a positive number, not {self.layer_norm_eps!r}"
            )
        for name, value, allowed in (
            ("feed_forward_type", self.feed_forward_type, get_args(FeedForward)),
            ("alibi_slopes", self.alibi_slopes, get_args(Slopes)),
            ("quantization", self.quantization, (None, *get_args(Quantization))),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, not {value!r}")

    def _sizes(self) -> dict[str, object]:
        sizes = {f.name: getattr(self, f.name) for f in fields(self) if f.type == "int"}
        if self.attention_window is not None:
            sizes["attention_window"] = self.attention_window
        return sizes


def _check_kind(config: ConfigFile) -> None:
    """Refuse other models than JinaBERT, before their tensors give a less helpful message.

    `model_type` is `bert` in Jina's own checkpoints, so it does not distinguish them from BERT; the
    position and feed-forward fields do.
    """
    position = config.values.get("position_embedding_type")
    feed_forward = config.values.get("feed_forward_type")
    if position != "alibi" or feed_forward not in get_args(FeedForward):
        raise config.refuse(
            f"not a JinaBERT reranker (position_embedding_type {position!r}, "
            f"feed_forward_type {feed_forward!r}; expected 'alibi' and one of "
            f"{get_args(FeedForward)}). "
            "sentence-transformers may run it: name it cross-encoder:MODEL."
        )
    activation = config.values.get("hidden_act") or "gelu"
    if feed_forward == "original" and activation != "gelu":
        raise config.refuse(
            f"hidden_act must be 'gelu' where feed_forward_type is 'original', not {activation!r}"
        )


def _reads(config: ConfigFile, _extras: Extras) -> bool:
    return config.values.get("position_embedding_type") == "alibi"


def _describe(config: ConfigFile, _extras: Extras) -> Description:
    return Description(JinaBertConfig.from_file(config.path).architecture(), Source)


FAMILY = Family(
    name="JinaBERT",
    reads=_reads,
    describe=_describe,
    unused=(
        "bert.embeddings.position_ids",
        "bert.embeddings.token_type_ids",
        "bert.encoder.alibi",
    ),
)
"""`unused` are buffers of the original that older files hold; they are no weights."""

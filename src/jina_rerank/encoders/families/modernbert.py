"""ModernBERT: gte-reranker-modernbert, granite rerankers, Ettin's, and others of their kind."""

from __future__ import annotations

from collections.abc import Mapping

from ..architecture import Architecture, Head, Pooling, Rotary
from ..config_file import ConfigFile, positive
from .family import Description, Extras, Family, Source
from .shared import check_both_directions, check_classifier, shortest

MODEL_TYPE = "modernbert"
ARCHITECTURE = "ModernBertForSequenceClassification"

THETAS = {"full_attention": 160_000.0, "sliding_attention": 10_000.0}
"""Bases of the wavelengths where config.json has none, as in transformers' `ModernBertConfig`."""

OLD_THETAS = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}
"""Fields with these bases before transformers 5."""

UNSCALED: tuple[object, ...] = (None, {}, {"rope_type": "default"}, {"type": "default"})
"""Values of `rope_scaling` that change nothing."""

POOLINGS: dict[str, Pooling] = {"cls": "first", "mean": "mean"}
"""Kinds of pooling, by their names in config.json and in sentence-transformers."""

QUERY_KEY_VALUE = {"query": 0, "key": 1, "value": 2}

NAMES = {
    "attention.output.dense": "attn.Wo",
    "attention.output.LayerNorm": "attn_norm",
    "mlp.gated_layers": "mlp.Wi",
    "mlp.wo": "mlp.Wo",
    "mlp.layernorm": "mlp_norm",
}
"""Names within a layer: as `EncoderModel` has them, and as the checkpoint does."""

OUTSIDE = {
    "bert.embeddings.word_embeddings": "model.embeddings.tok_embeddings",
    "bert.embeddings.LayerNorm": "model.embeddings.norm",
    "bert.encoder.final_norm": "model.final_norm",
    "bert.pooler.dense": "head.dense",
    "bert.pooler.LayerNorm": "head.norm",
    "classifier": "classifier",
}
"""Names outside the layers, in both forms."""


def _reads(config: ConfigFile, _extras: Extras) -> bool:
    return config.values.get("model_type") == MODEL_TYPE


def _describe(config: ConfigFile, extras: Extras) -> Description:
    check_classifier(config, ARCHITECTURE)
    norm_bias, eps = config.flag("norm_bias", default=False), config.number("norm_eps", 1e-5)
    head = Head(
        pooling=POOLINGS[config.choice("classifier_pooling", "cls", list(POOLINGS))],
        activation=config.choice("classifier_activation", "gelu", ["gelu", "relu", "tanh"]),
        dense_bias=config.flag("classifier_bias", default=False),
        norm=True,
        norm_bias=norm_bias,
        norm_eps=eps,
    )
    return Description(encoder(config, extras, head), encoder_source)


def encoder(config: ConfigFile, extras: Extras, head: Head) -> Architecture:
    """Read the encoder's part of config.json.

    Args:
        config: The file.
        extras: The files beside it.
        head: The head that follows the encoder.

    Raises:
        ModelLoadError: It has a field that cannot be computed exactly.
    """
    check_both_directions(config)
    hidden, layers = config.integer("hidden_size"), config.integer("num_hidden_layers")
    heads = config.heads(hidden)
    if hidden // heads % 2:
        raise config.refuse(
            f"head size must be even for rotary positions, not {hidden // heads}: hidden_size "
            f"{hidden} / num_attention_heads {heads}"
        )
    kinds = _layer_kinds(config, layers)
    reach = config.integer("local_attention", 128) // 2
    # transformers reads it, too, and prefers it.
    config.choice("sliding_window", reach, [reach])
    positions = config.integer("max_position_embeddings", 8192)
    mlp_bias = config.flag("mlp_bias", default=False)
    return Architecture(
        vocab_size=config.integer("vocab_size"),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=config.integer("intermediate_size"),
        max_length=shortest(positions, extras.stated_length),
        layer_norm_eps=config.number("norm_eps", 1e-5),
        positions=Rotary(_thetas(config, kinds)),
        windows=tuple(reach if kind == "sliding_attention" else None for kind in kinds),
        activation=config.choice("hidden_activation", "gelu", ["gelu", "relu"]),
        gated=True,
        norm_first=True,
        attention_bias=config.flag("attention_bias", default=False),
        units_bias=mlp_bias,
        out_bias=mlp_bias,
        norm_bias=config.flag("norm_bias", default=False),
        head=head,
    )


def _layer_kinds(config: ConfigFile, layers: int) -> list[str]:
    kinds = config.values.get("layer_types")
    if kinds is None:
        every = config.integer("global_attn_every_n_layers", 3)
        return ["sliding_attention" if n % every else "full_attention" for n in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers or not set(kinds) <= THETAS.keys():
        raise config.refuse(
            f"layer_types must name one of {', '.join(THETAS)} for each of {layers} layers, "
            f"not {kinds!r}"
        )
    return kinds


def _thetas(config: ConfigFile, kinds: list[str]) -> tuple[float, ...]:
    """Read the base of the wavelengths for each layer, from the layers' kinds."""
    # transformers adds these fields to those of both kinds.
    if config.values.get("rope_scaling") not in UNSCALED:
        raise config.not_native("rope_scaling is not computed")
    given = config.values.get("rope_parameters")
    by_kind = given if isinstance(given, Mapping) else {}
    readable = given is None or isinstance(given, Mapping)
    if not readable or not all(
        kind in THETAS and isinstance(own, Mapping | None) for kind, own in by_kind.items()
    ):
        raise config.not_native(
            f"rope_parameters must have entries for {' and '.join(THETAS)}, not {given!r}"
        )
    return tuple(_theta(config, kind, by_kind.get(kind) or {}) for kind in kinds)


def _theta(config: ConfigFile, kind: str, own: Mapping[str, object]) -> float:
    rope_type = own.get("rope_type", own.get("type", "default"))
    if rope_type != "default":
        raise config.not_native(f"rope_parameters: rope_type must be 'default', not {rope_type!r}")
    if "rope_theta" not in own:
        return config.number(OLD_THETAS[kind], THETAS[kind])
    theta = positive(own["rope_theta"])
    if theta is None:
        raise config.refuse(
            f"rope_parameters: rope_theta must be a positive number, not {own['rope_theta']!r}"
        )
    return theta


def encoder_source(name: str) -> Source:
    """Find the place of an encoder's parameter in a checkpoint that has a head."""
    module, _, kind = name.rpartition(".")
    if module in OUTSIDE:
        return Source(f"{OUTSIDE[module]}.{kind}")
    number, _, within = module.removeprefix("bert.encoder.layer.").partition(".")
    layer = f"model.layers.{number}"
    if within.startswith("attention.self."):
        part = QUERY_KEY_VALUE[within.removeprefix("attention.self.")]
        return Source(f"{layer}.attn.Wqkv.{kind}", part, 3)
    return Source(f"{layer}.{NAMES[within]}.{kind}")


FAMILY = Family(
    name="ModernBERT",
    reads=_reads,
    describe=_describe,
    unused=("decoder.",),
)

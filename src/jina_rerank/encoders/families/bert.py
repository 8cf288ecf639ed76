"""BERT: ms-marco-MiniLM, ms-marco-TinyBERT and other `BertForSequenceClassification`."""

from __future__ import annotations

from ..architecture import Architecture, PositionTable
from ..config_file import ConfigFile
from .family import Description, Extras, Family, Source
from .shared import check_both_directions, check_classifier, check_positions, shortest

MODEL_TYPE = "bert"
ARCHITECTURE = "BertForSequenceClassification"


def _reads(config: ConfigFile, _extras: Extras) -> bool:
    return config.values.get("model_type") == MODEL_TYPE


def _describe(config: ConfigFile, extras: Extras) -> Description:
    check_classifier(config, ARCHITECTURE)
    check_positions(config)
    check_both_directions(config)
    hidden, layers = config.integer("hidden_size"), config.integer("num_hidden_layers")
    positions = config.integer("max_position_embeddings", 512)
    architecture = Architecture(
        vocab_size=config.integer("vocab_size"),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=config.heads(hidden),
        intermediate_size=config.integer("intermediate_size"),
        max_length=shortest(positions, extras.stated_length),
        layer_norm_eps=config.number("layer_norm_eps", 1e-12),
        positions=PositionTable(positions),
        windows=(None,) * layers,
        token_types=config.integer("type_vocab_size", 2),
        activation=config.choice("hidden_act", "gelu", ["gelu", "relu"]),
    )
    return Description(architecture, Source)


FAMILY = Family(
    name="BERT",
    reads=_reads,
    describe=_describe,
    unused=("bert.embeddings.position_ids", "cls."),
)

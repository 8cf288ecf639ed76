"""XLM-RoBERTa and RoBERTa: bge-reranker, mmarco-mMiniLM, and others of their kind."""

from __future__ import annotations

from ..architecture import Architecture, PositionTable
from ..config_file import ConfigFile
from .family import Description, Extras, Family, Source
from .shared import check_both_directions, check_classifier, check_positions, shortest

ARCHITECTURES = {
    "xlm-roberta": "XLMRobertaForSequenceClassification",
    "roberta": "RobertaForSequenceClassification",
}
"""The class that has the head, for each model type."""

HEAD = {
    "bert.pooler.dense.": "classifier.dense.",
    "classifier.": "classifier.out_proj.",
}
"""The head's names: as `EncoderModel` has them, and as the checkpoint does."""


def _reads(config: ConfigFile, _extras: Extras) -> bool:
    return config.values.get("model_type") in ARCHITECTURES


def _describe(config: ConfigFile, extras: Extras) -> Description:
    check_classifier(config, ARCHITECTURES[str(config.values["model_type"])])
    check_positions(config)
    check_both_directions(config)
    hidden, layers = config.integer("hidden_size"), config.integer("num_hidden_layers")
    rows = config.integer("max_position_embeddings", 512)
    padding = config.integer("pad_token_id", 1, least=0)
    architecture = Architecture(
        vocab_size=config.integer("vocab_size"),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=config.heads(hidden),
        intermediate_size=config.integer("intermediate_size"),
        # The rows up to that of the padding id belong to no position.
        max_length=shortest(rows - padding - 1, extras.stated_length),
        layer_norm_eps=config.number("layer_norm_eps", 1e-12),
        positions=PositionTable(rows, padding),
        windows=(None,) * layers,
        token_types=config.integer("type_vocab_size", 2),
        activation=config.choice("hidden_act", "gelu", ["gelu", "relu"]),
    )
    return Description(architecture, _source)


def _source(name: str) -> Source:
    for ours, theirs in HEAD.items():
        if name.startswith(ours):
            return Source(theirs + name.removeprefix(ours))
    return Source("roberta." + name.removeprefix("bert."))


FAMILY = Family(
    name="XLM-RoBERTa",
    reads=_reads,
    describe=_describe,
    unused=("roberta.embeddings.position_ids", "roberta.pooler.", "lm_head."),
)

"""ModernBERT encoders with sentence-transformers' modules as head: Ettin's rerankers."""

from __future__ import annotations

from ..architecture import Activation, Head, Pooling
from ..config_file import ConfigFile
from ..files import ModuleFiles
from . import modernbert
from .family import Description, Extras, Family, Source

ARCHITECTURE = "ModernBertModel"

KINDS = (
    ["Transformer", "Pooling", "Dense", "Dense"],
    ["Transformer", "Pooling", "Dense", "LayerNorm", "Dense"],
)
"""The module lists that can be computed."""

ACTIVATIONS: dict[str, Activation] = {
    "torch.nn.modules.activation.GELU": "gelu",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.Tanh": "tanh",
}
"""Activations by their names in a dense module's config.json."""

IDENTITY = "torch.nn.modules.linear.Identity"

LAYER_NORM_EPS = 1e-5
"""Torch's default, which sentence-transformers' LayerNorm always has."""

LEGACY_POOLINGS = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
"""Fields for the kind of pooling before sentence-transformers 5.4, each true or false."""


def _reads(config: ConfigFile, _extras: Extras) -> bool:
    named = config.values.get("architectures")
    is_encoder = isinstance(named, list) and ARCHITECTURE in named
    return is_encoder and config.values.get("model_type") == modernbert.MODEL_TYPE


def _describe(config: ConfigFile, extras: Extras) -> Description:
    modules = extras.modules
    kinds = [module.kind for module in modules]
    if kinds not in KINDS:
        found = ", ".join(kinds) or "nothing"
        problem = (
            f"is an encoder without a head, and modules.json names {found} beside it. A reranker "
            f"has {', '.join(KINDS[1])}, where LayerNorm may be missing"
        )
        # A list that ends with something else gives vectors, and no score.
        scores_elsewhere = kinds[-1:] == ["Dense"]
        raise config.not_native(problem) if scores_elsewhere else config.refuse(problem)
    _, pooling, dense, *norms, scores = modules
    _check_scores(_config_of(scores, config))
    hidden = config.integer("hidden_size")
    own = _config_of(dense, config)
    for name in ("in_features", "out_features"):
        own.choice(name, hidden, [hidden])
    own.choice("use_residual", default=False, allowed=[False])
    head = Head(
        pooling=_pooling(_config_of(pooling, config)),
        activation=ACTIVATIONS[own.choice("activation_function", "", list(ACTIVATIONS))],
        dense_bias=own.flag("bias", default=True),
        norm=bool(norms),
        norm_eps=LAYER_NORM_EPS,
    )
    folders = {
        "bert.pooler.dense": f"{dense.folder}.linear",
        "classifier": f"{scores.folder}.linear",
    }
    if norms:
        folders["bert.pooler.LayerNorm"] = f"{norms[0].folder}.norm"

    def source(name: str) -> Source:
        module, _, kind = name.rpartition(".")
        if module in folders:
            return Source(f"{folders[module]}.{kind}")
        there = modernbert.encoder_source(name)
        return Source(there.name.removeprefix("model."), there.part, there.parts)

    return Description(modernbert.encoder(config, extras, head), source)


def _config_of(module: ModuleFiles, config: ConfigFile) -> ConfigFile:
    if module.config is None:
        raise config.refuse(f"{module.folder} of modules.json has no config.json")
    return ConfigFile(module.config, config.checkpoint)


def _check_scores(config: ConfigFile) -> None:
    """Check that the last dense layer has one output, no activation and no residual."""
    config.only("out_features", 0, [1])
    config.choice("activation_function", IDENTITY, [IDENTITY])
    config.flag("bias", default=True)
    config.choice("use_residual", default=False, allowed=[False])


def _pooling(config: ConfigFile) -> Pooling:
    legacy = [LEGACY_POOLINGS.get(name, name) for name, value in config.values.items()
              if name.startswith("pooling_mode_") and value is True]  # fmt: skip
    if legacy and legacy[0] not in modernbert.POOLINGS:
        raise config.not_native(f"{legacy[0]} is not computed")
    default = legacy[0] if len(legacy) == 1 else "mean"
    return modernbert.POOLINGS[config.choice("pooling_mode", default, list(modernbert.POOLINGS))]


FAMILY = Family(name="ModernBERT with a module list", reads=_reads, describe=_describe)

"""JinaBERT as a model of Hugging Face transformers, for training and interoperation.

Importing this registers it for the Auto classes: `AutoModelForSequenceClassification` and
sentence-transformers' `CrossEncoder` then load checkpoints that were saved here. Jina's own
checkpoints have the model type `bert`, so they must be loaded with
`JinaBertForSequenceClassification.from_pretrained`; no remote code is ever run.

Scoring does not need this module: `Reranker` and `LocalScorer` do without transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ._inputs import check_items, check_positive
from ._installed import missing
from .embedded import embedded_model_folder, find_source
from .encoders import JinaBertConfig, read_checkpoint
from .encoders.checkpoint import load_state, save_tokenizer, tokenizer_options
from .encoders.families.jinabert import MODEL_TYPE
from .encoders.files import CONFIG, TOKENIZER, collect
from .encoders.model import PackedForward
from .encoders.tokenizer import open_tokenizer
from .errors import ConfigurationError, InputError, ModelLoadError

try:
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForSequenceClassification,
        PreTrainedConfig,
        PreTrainedModel,
        PreTrainedTokenizerFast,
    )
    from transformers.modeling_outputs import SequenceClassifierOutput
    from transformers.utils.hub import cached_file
except ImportError as error:
    raise missing("transformers 5.4", __name__, "transformers") from error

_HUB_OPTIONS = (
    "cache_dir",
    "force_download",
    "local_files_only",
    "proxies",
    "revision",
    "subfolder",
    "token",
)


class JinaBertRerankerConfig(PreTrainedConfig):
    """The shape of a JinaBERT reranker: the fields of `jina_rerank.encoders.JinaBertConfig`.

    There is one label. `problem_type` chooses the loss, see `JinaBertForSequenceClassification`.
    """

    model_type = MODEL_TYPE

    vocab_size: int = 61056
    hidden_size: int = 384
    num_hidden_layers: int = 6
    num_attention_heads: int = 12
    intermediate_size: int = 1536
    type_vocab_size: int = 2
    text_positions: int = 1
    layer_norm_eps: float = 1e-12
    max_position_embeddings: int = 8192
    feed_forward_type: str = "geglu"
    alibi_slopes: str = "reranker"
    attention_window: int | None = None
    position_embedding_type: str = "alibi"
    initializer_range: float = 0.02
    pad_token_id: int | None = 0

    def __post_init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - whatever config.json has
        """Take over the fields of a checkpoint's config.json but `quantization` and `auto_map`.

        Loaded weights are no longer quantized, and no remote code belongs to them.
        """
        for name in ("quantization", "auto_map"):
            kwargs.pop(name, None)
        kwargs.setdefault("num_labels", 1)
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]

    @classmethod
    def get_config_dict(
        cls,
        pretrained_model_name_or_path: str | PathLike[str],
        **kwargs: Any,  # noqa: ANN401 - as in transformers
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read config.json as transformers does, but recognize Jina's `bert` as a JinaBERT."""
        values, rest = super().get_config_dict(_resolve(pretrained_model_name_or_path), **kwargs)
        if values.get("position_embedding_type") == "alibi":
            values["model_type"] = MODEL_TYPE
        return values, rest

    def to_jinabert(self) -> JinaBertConfig:
        """Convert to the configuration that `jina_rerank.encoders` uses."""
        names = JinaBertConfig.__dataclass_fields__.keys() - {"quantization"}
        return JinaBertConfig(**{name: getattr(self, name) for name in names})


class JinaBertForSequenceClassification(PackedForward, PreTrainedModel):
    """A JinaBERT reranker with the interface of transformers' models.

    Computes without padding, as `JinaBert` does. There is no dropout.

    Args:
        config: The shape.

    Raises:
        ConfigurationError: The configuration asks for more than one label.
    """

    config_class = JinaBertRerankerConfig
    config: JinaBertRerankerConfig
    base_model_prefix = "bert"
    _no_split_modules = ["Layer"]  # noqa: RUF012 - as transformers declares it
    _supports_sdpa = True

    def __init__(self, config: JinaBertRerankerConfig) -> None:
        super().__init__(config)
        if config.num_labels != 1:
            raise ConfigurationError(f"num_labels is {config.num_labels}; a reranker has one")
        self.num_labels = 1
        self._build(config.to_jinabert().architecture())
        self._tokenizer_file: Path | None = None
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike[str] | None,
        *model_args: Any,  # noqa: ANN401 - as in transformers
        config: PreTrainedConfig | str | PathLike[str] | None = None,
        dtype: torch.dtype | str | None = None,
        **kwargs: Any,  # noqa: ANN401 - as in transformers
    ) -> Self:
        """Read a checkpoint: Jina's, one that was saved here, or the embedded model's.

        Works as in transformers, but is strict: every tensor must be there, finite and of the
        right shape, and no other tensor may be there.

        Args:
            pretrained_model_name_or_path: A folder, a hub id, or `jina-rerank-mini` for the
                embedded model.
            *model_args: Passed on to transformers.
            config: A configuration in place of the checkpoint's.
            dtype: None for float32, whatever the file stores; `"auto"` for what config.json says.
            **kwargs: transformers' other options: `revision`, `token`, `device_map` and so on.

        Raises:
            ModelLoadError: Files are missing, or do not hold exactly this model.
            ConfigurationError: `config` is another model's, or asks for more than one label.
        """
        if "torch_dtype" in kwargs:
            dtype = kwargs.pop("torch_dtype")
        if pretrained_model_name_or_path is None:
            return super().from_pretrained(None, *model_args, config=config, dtype=dtype, **kwargs)
        name = _resolve(pretrained_model_name_or_path)
        hub = {option: kwargs.pop(option) for option in _HUB_OPTIONS if option in kwargs}
        files = collect(lambda file: _find(name, file, hub), name, tokenizer=False)
        JinaBertConfig.from_file(files.config)  # refuses every other family
        if not isinstance(config, PreTrainedConfig):
            config, kwargs = JinaBertRerankerConfig.from_pretrained(
                files.config if config is None else config, return_unused_kwargs=True, **kwargs
            )
        if not isinstance(config, JinaBertRerankerConfig):
            raise ConfigurationError(f"config is a {type(config).__name__}, not a JinaBERT's")
        chosen = _choose_dtype(dtype, config)
        stored = replace(read_checkpoint(files), architecture=config.to_jinabert().architecture())
        state = load_state(stored, chosen)
        loaded = super().from_pretrained(
            None, *model_args, config=config, state_dict=state, dtype=chosen, **kwargs
        )
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.config.name_or_path = model.name_or_path = name
        model._tokenizer_file = _find(name, TOKENIZER, hub)
        return loaded

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | PathLike[str],
        **kwargs: Any,  # noqa: ANN401 - as in transformers
    ) -> None:
        """Save as in transformers, with the tokenizer if the folder has none.

        `LocalScorer` loads the folder, and so does `CrossEncoder`.
        """
        # The format has the modules' own names; transformers 5.4 would call norms gamma and beta.
        super().save_pretrained(save_directory, **{**kwargs, "save_original_format": False})
        folder = Path(save_directory)
        is_there = (folder / TOKENIZER).exists() or not (folder / CONFIG).exists()
        if self._tokenizer_file is not None and not is_there:
            tokenizer = open_tokenizer(self._tokenizer_file)
            save_tokenizer(tokenizer, self.config.max_position_embeddings, folder)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | tuple[Tensor, ...]:
        """Compute the logits of a padded batch.

        Args:
            input_ids: Shape (batch, length), integers.
            attention_mask: Same shape; nonzero for tokens, zero for the padding, which must stand
                at the end of a row. None for no padding.
            token_type_ids: Same shape; None for all zero.
            labels: Shape (batch,) or (batch, 1). Relevance from 0 to 1, and the loss is the binary
                cross-entropy of the score, the sigmoid of the logit. With `problem_type`
                `"regression"` in the configuration, logits, and the loss is the mean squared error.
            return_dict: False for a tuple; None for what the configuration says.

        Returns:
            `logits`, shape (batch, 1), float32 except under autocast; and `loss`, a scalar, where
            there are labels.

        Raises:
            InputError: A row is all padding, or has tokens after its padding.
        """
        logits = self.forward_padded(input_ids, attention_mask, token_type_ids)
        loss = None if labels is None else self._loss(logits, labels)
        output = SequenceClassifierOutput(loss=loss, logits=logits[:, None])
        use_dict = self.config.return_dict if return_dict is None else return_dict
        return output if use_dict else output.to_tuple()

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        wanted = labels.reshape(logits.shape).to(logits)
        if self.config.problem_type == "regression":
            return F.mse_loss(logits, wanted)
        return F.binary_cross_entropy_with_logits(logits, wanted)

    @torch.inference_mode()
    def compute_score(
        self,
        sentence_pairs: Sequence[Sequence[str]],
        batch_size: int = 32,
        max_length: int | None = None,
    ) -> list[float]:
        """Compute the scores of pairs of a query and a document, as in Jina's own code.

        Where a pair is too long, the longer of the two texts is cut. This is not reported here;
        `LocalScorer` reports it.

        Args:
            sentence_pairs: Pairs (query, document), or one pair.
            batch_size: Number of pairs computed at once.
            max_length: Longest pair in tokens, special tokens included; None for the model's.

        Returns:
            One score in (0, 1) for each pair; a list even for a single pair.

        Raises:
            InputError: An item is not a pair of strings, or a number is below 1.
            ConfigurationError: The model was not loaded from a checkpoint with a tokenizer.
        """
        pairs = _check_pairs(sentence_pairs)
        batch_size = check_positive(batch_size, "batch_size")
        if max_length is not None:
            max_length = check_positive(max_length, "max_length")
        if self._tokenizer_file is None:
            raise ConfigurationError(f"{self.name_or_path}: there is no {TOKENIZER}")
        tokenizer = _read_tokenizer(self._tokenizer_file, self.config.max_position_embeddings)
        scores: list[float] = []
        for start in range(0, len(pairs), batch_size):
            batch = pairs[start : start + batch_size]
            inputs = tokenizer(
                [query for query, _ in batch],
                [document for _, document in batch],
                padding=True,
                truncation="longest_first",
                max_length=min(
                    max_length or tokenizer.model_max_length, tokenizer.model_max_length
                ),
                return_tensors="pt",
            ).to(self.device)
            logits = self(**inputs, return_dict=True).logits
            # In float64: in fp32 the scores of good documents would tie at 1.
            scores += logits.cpu().double().sigmoid().squeeze(-1).tolist()
        return scores


def _check_pairs(sentence_pairs: object) -> list[list[str]]:
    """Check pairs and return them as a list; a single pair becomes a list of one."""
    argument = "sentence_pairs"
    items = list(check_items(sentence_pairs, argument, "pairs", "for one pair pass [pair]"))
    if items and all(isinstance(item, str) for item in items):
        items = [items]
    pairs = []
    for i, pair in enumerate(items):
        place = f"{argument}[{i}]"
        texts = list(check_items(pair, place, "two strings", "pass (query, document)"))
        if len(texts) != 2 or not all(isinstance(text, str) for text in texts):
            raise InputError(place, "must be a query and a document")
        pairs.append(cast("list[str]", texts))
    return pairs


def load_tokenizer(
    name: str | PathLike[str],
    **hub: Any,  # noqa: ANN401 - as in transformers
) -> PreTrainedTokenizerFast:
    """Load a reranker's tokenizer exactly as its tokenizer.json defines it.

    For Jina's own checkpoints use this and not `AutoTokenizer`, which since transformers 5 rebuilds
    theirs without lower-casing.

    Args:
        name: A folder, a hub id, or `jina-rerank-mini` for the embedded model.
        **hub: `revision`, `token`, `cache_dir`, `local_files_only` and so on, as in transformers.

    Raises:
        ModelLoadError: There is no tokenizer.json, or it is not a JinaBERT's.
    """
    name = _resolve(name)
    config, tokenizer = (_find(name, file, hub) for file in (CONFIG, TOKENIZER))
    if config is None or tokenizer is None:
        raise ModelLoadError(f"{name}: has no {TOKENIZER if config else CONFIG}")
    return _read_tokenizer(tokenizer, JinaBertConfig.from_file(config).max_position_embeddings)


def _read_tokenizer(path: Path, max_length: int) -> PreTrainedTokenizerFast:
    tokenizer = open_tokenizer(path)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **tokenizer_options(tokenizer, max_length)
    )


def _resolve(name: str | PathLike[str]) -> str:
    source = find_source(name)
    return fspath(embedded_model_folder() if source is None else source)


def _find(name: str, file: str, hub: dict[str, Any]) -> Path | None:
    try:
        path = cached_file(name, file, _raise_exceptions_for_missing_entries=False, **hub)
    except OSError as error:
        raise ModelLoadError(f"{name}: {error}") from error
    return None if path is None else Path(path)


def _choose_dtype(wanted: torch.dtype | str | None, config: JinaBertRerankerConfig) -> torch.dtype:
    if wanted == "auto":
        wanted = config.dtype
    if isinstance(wanted, str):
        wanted = getattr(torch, wanted)
    return wanted if isinstance(wanted, torch.dtype) else torch.float32


AutoConfig.register(MODEL_TYPE, JinaBertRerankerConfig, exist_ok=True)
for auto in (AutoModel, AutoModelForSequenceClassification):
    auto.register(JinaBertRerankerConfig, JinaBertForSequenceClassification, exist_ok=True)

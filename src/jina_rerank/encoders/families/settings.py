"""Settings that tokenizers and sentence-transformers keep in files beside config.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..config_file import ConfigFile
from ..files import CheckpointFiles

MOST_TOKENS = 2**20
"""Bound for plausible limits: a tokenizer without a limit states a larger number, such as 10^30."""

HARMLESS = frozenset({"max_length", "padding", "truncation", "return_tensors"})
"""Settings in `processing_kwargs` that are read, or change no score here."""


def check_text_settings(files: CheckpointFiles) -> None:
    """Check that sentence-transformers would pass the texts to the tokenizer as they are.

    Its modules.json marks a model whose settings it reads: a default prompt in
    config_sentence_transformers.json, `do_lower_case` and `processing_kwargs` in
    sentence_bert_config.json.

    Raises:
        ModelLoadError: It would change them; the message names what may run the model.
    """
    if files.prompts is not None:
        config = ConfigFile(files.prompts)
        prompts, default = config.values.get("prompts"), config.values.get("default_prompt_name")
        if isinstance(prompts, Mapping) and prompts.get(default):
            raise config.not_native(f"default_prompt_name is {default!r}, and no prompt is added")
    if files.inputs is not None:
        config = ConfigFile(files.inputs)
        config.choice("do_lower_case", default=False, allowed=[False])
        if names := unusual_settings(config.values.get("processing_kwargs")):
            raise config.not_native(f"{', '.join(names)} of processing_kwargs is not read")


def has_token_types(files: CheckpointFiles) -> bool:
    """Tell whether the model is given token types: where its tokenizer names its inputs, if so."""
    names = _values(files.tokenizer_config).get("model_input_names")
    return not isinstance(names, list) or "token_type_ids" in names


def stated_length(files: CheckpointFiles) -> int | None:
    """Read the longest pair in tokens, special tokens included; None if no file states one.

    As in sentence-transformers, a `max_length` in its `processing_kwargs` goes before its
    `max_seq_length`, and that before the tokenizer's `model_max_length`.
    """
    inputs, tokenizer = _values(files.inputs), _values(files.tokenizer_config)
    own = length_setting(inputs.get("processing_kwargs"))
    others = _tokens(inputs.get("max_seq_length")), _tokens(tokenizer.get("model_max_length"))
    return next((length for length in (own, *others) if length is not None), None)


def length_setting(processing_kwargs: object) -> int | None:
    """Read `max_length` from sentence-transformers' `processing_kwargs`; None if it has none."""
    lengths = (_tokens(group.get("max_length")) for group in _groups(processing_kwargs))
    return next((length for length in lengths if length is not None), None)


def unusual_settings(processing_kwargs: object) -> list[str]:
    """List the names in sentence-transformers' `processing_kwargs` that change a pair's tokens."""
    return sorted({name for group in _groups(processing_kwargs) for name in group} - HARMLESS)


def _groups(groups: object) -> list[Mapping[str, object]]:
    """List the settings that sentence-transformers passes to the tokenizer, the stronger first."""
    if not isinstance(groups, Mapping):
        return []
    found = [groups.get(name) for name in ("common", "text")]
    return [group for group in found if isinstance(group, Mapping)]


def _values(path: Path | None) -> Mapping[str, object]:
    return {} if path is None else ConfigFile(path).values


def _tokens(value: object) -> int | None:
    """Convert a plausible limit; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 < value < MOST_TOKENS else None

"""Lookup of a checkpoint's files: in a folder, in the hub's cache, or on the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path

from .._installed import missing
from ..errors import ConfigurationError, ModelLoadError, ModelNotFoundError

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SAFETENSORS = "model.safetensors"
SHARD_INDEX = "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"
PICKLE_INDEX = "pytorch_model.bin.index.json"
MODULES = "modules.json"
PROMPTS = "config_sentence_transformers.json"
INPUTS = "sentence_bert_config.json"
ADAPTER = "adapter_config.json"


Get = Callable[[str], Path | None]
"""Function from the name of a checkpoint's file to its path, or None if there is no such file."""


@dataclass(frozen=True, slots=True)
class ModuleFiles:
    """One entry of modules.json, as sentence-transformers writes it.

    Attributes:
        kind: The name of its class.
        folder: Its folder within the checkpoint, empty for the checkpoint itself.
        config: Its config.json, or None where there is none.
        weights: Its weights, or None where there are none.
    """

    kind: str
    folder: str
    config: Path | None
    weights: Path | None


@dataclass(frozen=True, slots=True)
class CheckpointFiles:
    """The files of one checkpoint.

    Attributes:
        config: config.json.
        weights: One file, or the shards.
        tokenizer: tokenizer.json, or None where it was not requested.
        tokenizer_config: tokenizer_config.json, or None where there is none.
        modules: The entries of modules.json; empty where there is none.
        prompts: config_sentence_transformers.json, or None where it or modules.json is missing.
        inputs: sentence_bert_config.json, in the same way.
    """

    config: Path
    weights: tuple[Path, ...]
    tokenizer: Path | None
    tokenizer_config: Path | None = None
    modules: tuple[ModuleFiles, ...] = ()
    prompts: Path | None = None
    inputs: Path | None = None

    def tensor_files(self) -> list[tuple[str, Path]]:
        """List all files of weights, each after the prefix of its tensors' names in `Source`."""
        own = [
            (f"{module.folder}.", module.weights)
            for module in self.modules
            if module.weights is not None
        ]
        return [*(("", path) for path in self.weights), *own]

    def tensor_names(self) -> set[str] | None:
        """Read the names of all tensors from the files' headers; None if a file is pickled.

        Raises:
            ModelLoadError: A file is no safetensors file.
        """
        from safetensors import SafetensorError, safe_open

        names: set[str] = set()
        for prefix, path in self.tensor_files():
            if path.suffix != ".safetensors":
                return None
            try:
                with safe_open(path, framework="numpy") as file:
                    names.update(prefix + name for name in file.keys())  # noqa: SIM118 - no dict
            except (OSError, SafetensorError) as error:
                raise ModelLoadError(f"{path}: cannot be read: {error}") from error
        return names


Check = Callable[[CheckpointFiles], object]
"""Function that raises for a checkpoint that cannot be used."""


def find_checkpoint(
    folder_or_hub_id: str | PathLike[str],
    *,
    revision: str | None = None,
    tokenizer: bool = True,
    local_files_only: bool = False,
    check: Check | None = None,
) -> CheckpointFiles:
    """Find the files of a checkpoint, and download them if necessary.

    A string that names an existing folder is that folder. A hub id is looked up in the cache
    first and costs no network request if all is there; a newer version is fetched only if
    `revision` names it. HF_HUB_OFFLINE, HF_HOME, HF_TOKEN and HF_ENDPOINT are respected.

    Args:
        folder_or_hub_id: A folder, or a model's name on the hub.
        revision: A branch, tag or commit of the hub's repository.
        tokenizer: Whether tokenizer.json is needed too.
        local_files_only: Whether to use only files in the folder or the cache, without the hub.
        check: Called with all other files before weights are downloaded from the hub.

    Raises:
        ModelLoadError: A file is missing, or cannot be downloaded; the message says what to do.
        ModelNotFoundError: No model has this name.
        ConfigurationError: The library for the hub is not installed.
        Exception: As raised by `check`.
    """
    name = fspath(folder_or_hub_id)
    # Path("") would be the current folder.
    if not name or name.isspace():
        raise ModelLoadError(f"{name!r}: is no name of a model; name a folder or a hub id")
    folder = Path(name).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ConfigurationError(f"revision: {name} is a folder, which has no revisions")
        return collect(lambda file: _in_folder(folder, file), name, tokenizer)
    if not isinstance(folder_or_hub_id, str):
        raise ModelNotFoundError.no_folder(name)
    return _on_hub(name, revision, tokenizer, local_files_only, check)


def collect(get: Get, name: str, tokenizer: bool, check: Check | None = None) -> CheckpointFiles:
    """Collect the files of a checkpoint with a function that finds each of them.

    Args:
        get: Returns the path of a file of the checkpoint, or None.
        name: The checkpoint's name in messages.
        tokenizer: Whether tokenizer.json is needed too.
        check: As for `find_checkpoint`.

    Raises:
        ModelLoadError: A file is missing.
    """
    config = get(CONFIG)
    if config is None:
        if get(ADAPTER) is not None:
            raise ModelLoadError(
                f"{name}: is an adapter of peft without its model; merge the two with peft's "
                "merge_and_unload, and save the result"
            )
        raise ModelLoadError(f"{name}: has no {CONFIG}")
    tokenizer_file = get(TOKENIZER) if tokenizer else None
    if tokenizer and tokenizer_file is None:
        raise ModelLoadError(
            f"{name}: has no {TOKENIZER}. If it has a tokenizer of another kind, "
            f"sentence-transformers may run it: cross-encoder:{name}"
        )
    options, modules = get(TOKENIZER_CONFIG), _modules(get)
    # Without modules.json, sentence-transformers reads neither.
    prompts, inputs = (get(PROMPTS), get(INPUTS)) if modules else (None, None)
    found = CheckpointFiles(config, (), tokenizer_file, options, modules, prompts, inputs)
    if check is not None:
        check(found)
    return replace(found, weights=_weights(get, name))


def _modules(get: Get) -> tuple[ModuleFiles, ...]:
    index = get(MODULES)
    if index is None:
        return ()
    try:
        entries = json.loads(index.read_text(encoding="utf-8-sig"))
        named = [(str(entry["type"]), str(entry["path"])) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelLoadError(f"{index}: not a list of modules: {error!r}") from error
    found = []
    for kind, folder in named:
        # A path such as ../../x would reach outside the checkpoint.
        if folder and Path(folder).name != folder:
            raise ModelLoadError(f"{index}: {folder!r} is no plain folder name")
        config, whole = (
            get(f"{folder}/{name}") if folder else None for name in (CONFIG, SAFETENSORS)
        )
        found.append(ModuleFiles(kind.rpartition(".")[2], folder, config, whole))
    return tuple(found)


def _weights(get: Get, name: str) -> tuple[Path, ...]:
    for file in (SAFETENSORS, SHARD_INDEX, PICKLE, PICKLE_INDEX):
        if (found := get(file)) is not None:
            return _shards(get, name, found) if found.suffix == ".json" else (found,)
    raise ModelLoadError(f"{name}: has no weights: neither {SAFETENSORS}, {PICKLE}, nor shards")


def _shards(get: Get, name: str, index: Path) -> tuple[Path, ...]:
    """Find the files that an index of shards names."""
    try:
        shards = sorted(
            set(json.loads(index.read_text(encoding="utf-8-sig"))["weight_map"].values())
        )
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ModelLoadError(f"{index}: not an index of shards: {error!r}") from error
    # A name such as ../../x would reach outside the checkpoint.
    if not all(isinstance(shard, str) and Path(shard).name == shard for shard in shards):
        raise ModelLoadError(f"{index}: shards must be plain file names")
    found = [(shard, get(shard)) for shard in shards]
    for shard, path in found:
        if path is None:
            raise ModelLoadError(f"{name}: has no {shard}, which {index.name} names")
    return tuple(path for _, path in found if path is not None)


def _in_folder(folder: Path, file: str) -> Path | None:
    path = folder / file
    return path if path.is_file() else None


def _on_hub(
    name: str,
    revision: str | None,
    tokenizer: bool,
    local_files_only: bool,
    check: Check | None,
) -> CheckpointFiles:
    try:
        from .hub import HubModel
    except ImportError as error:
        raise missing(error.name, f"{name}: a model of the hub", "local") from error
    model = HubModel(name, revision)
    with model.explained_errors():
        try:
            return collect(model.cached, name, tokenizer)
        except ModelLoadError:
            if local_files_only:
                raise
            model.check_online()
        return collect(model.downloaded, name, tokenizer, check)

"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from .._installed import is_installed
from .._terminal import plain
from ..embedded import EMBEDDED_MODEL
from ..errors import ConfigurationError, ModelLoadError
from ..ranking import Ranking
from ..scorers.local import find_model
from .documents import Document

if TYPE_CHECKING:
    from ..encoders.files import CheckpointFiles

_TEXT_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class UsableModel:
    """A model whose files are all on this machine.

    Attributes:
        name: Name for `--model` and `Reranker`; the embedded model is the default.
        layers: Number of transformer blocks.
        max_length: Maximum tokens of a pair.
        megabytes: Size of the weights on disk.
        folder: Folder of the model.
    """

    name: str
    layers: int
    max_length: int
    megabytes: float
    folder: str

    def to_dict(self) -> dict[str, str | int | float]:
        """Convert to a plain dict."""
        return asdict(self)


def usable_offline() -> list[UsableModel]:
    """List the models that can be loaded offline by name: the embedded one, and the hub's cache.

    Without torch there is only the embedded model, and without torch and ONNX Runtime none.
    """
    names: list[str] = []
    if is_installed("torch"):
        names = [EMBEDDED_MODEL, *_cached_names()]
    elif is_installed("onnxruntime"):
        names = [EMBEDDED_MODEL]
    found = []
    for name in names:
        # Skipped: other kinds of models, incomplete downloads, and revisions that must be named.
        with suppress(ConfigurationError, ModelLoadError):
            found.append(_describe(name, find_model(name, local_files_only=True)))
    return found


def _describe(name: str, files: CheckpointFiles) -> UsableModel:
    from ..encoders.families import check_head, read_checkpoint

    checkpoint = read_checkpoint(files)
    architecture = checkpoint.architecture
    check_head(checkpoint)
    return UsableModel(
        name=name,
        layers=architecture.num_hidden_layers,
        max_length=architecture.max_length,
        megabytes=round(sum(path.stat().st_size for path in files.weights) / 1e6, 1),
        folder=str(files.config.parent),
    )


def _cached_names() -> list[str]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cache = scan_cache_dir()
    except (CacheNotFound, ValueError):  # ValueError: a file is in the cache's place
        return []
    return sorted(
        repository.repo_id for repository in cache.repos if repository.repo_type == "model"
    )


def ranking_table(query: str, ranking: Ranking, documents: Sequence[Document]) -> Table:
    """Build the table of a ranking, with scores and the number of truncated documents."""
    usage = ranking.usage
    table = Table(
        title=plain(query),
        caption=f"{len(ranking)} of {usage.documents} documents, {ranking.model}"
        + (f", {usage.truncated_documents} truncated" if usage.truncated_documents else ""),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("score", justify="right", style="green")
    table.add_column("id", style="cyan", overflow="fold")
    table.add_column("document", ratio=1)
    for hit in ranking:
        text = " ".join(hit.text.split())
        shown = text if len(text) <= _TEXT_CHARACTERS else text[:_TEXT_CHARACTERS] + "\u2026"
        table.add_row(f"{hit.score:.4f}", plain(documents[hit.index].id), plain(shown))
    return table


def models_table(models: Sequence[UsableModel]) -> Table:
    """Build the table of models that can be used offline."""
    table = Table(box=box.SIMPLE_HEAD, caption_justify="left")
    table.caption = (
        f"{EMBEDDED_MODEL} is the default and not Jina's; others are downloaded when first named, "
        "or by: hf download NAME"
    )
    table.add_column("model", style="cyan")
    for name in ("layers", "tokens", "MB"):
        table.add_column(name, justify="right")
    table.add_column("folder", overflow="fold")
    for model in models:
        table.add_row(
            plain(model.name),
            str(model.layers),
            f"{model.max_length:,}",
            f"{model.megabytes}",
            plain(model.folder),
        )
    return table

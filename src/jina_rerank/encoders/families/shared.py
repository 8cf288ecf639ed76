"""Checks that families share."""

from __future__ import annotations

from ..config_file import ConfigFile


def check_classifier(config: ConfigFile, architecture: str) -> None:
    """Check that a checkpoint has a trained head with one output.

    Args:
        config: Its config.json.
        architecture: The class of transformers that has the head.

    Raises:
        ModelLoadError: It has no head, or a head with several outputs.
    """
    named = config.values.get("architectures")
    if not isinstance(named, list) or architecture not in named:
        found = ", ".join(map(str, named)) if isinstance(named, list) else "nothing"
        raise config.refuse(
            f"architectures names {found}, which has no head that scores; a reranker of this "
            f"family is a {architecture}"
        )
    labels = config.values.get("id2label")
    outputs = len(labels) if isinstance(labels, dict) else config.values.get("num_labels", 1)
    if outputs != 1:
        raise config.refuse(f"has {outputs} outputs; a reranker has one")


def check_positions(config: ConfigFile) -> None:
    """Check that positions are encoded by a table with one vector for each.

    Raises:
        ModelLoadError: They are encoded in another way.
    """
    kind = config.values.get("position_embedding_type") or "absolute"
    if kind != "absolute":
        raise config.refuse(
            f"position_embedding_type must be 'absolute', not {kind!r}. With transformers before "
            f"5, which computes it, sentence-transformers may run it: "
            f"cross-encoder:{config.checkpoint}"
        )


def check_both_directions(config: ConfigFile) -> None:
    """Check that a token attends to the tokens before it and to those behind it.

    Raises:
        ModelLoadError: It attends only to those before it.
    """
    for name in ("is_decoder", "is_causal"):
        config.choice(name, default=False, allowed=[False])


def shortest(positions: int, stated_length: int | None) -> int:
    """Compute the longest pair in tokens that both the positions and the files allow."""
    return positions if stated_length is None else min(positions, stated_length)

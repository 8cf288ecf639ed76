"""Packages that may be missing: looked for without importing them, and missed in one way."""

from __future__ import annotations

import importlib.util
import sys

from .errors import ConfigurationError

CPU_BUILD = "pip install torch --index-url https://download.pytorch.org/whl/cpu"
"""The command for torch without CUDA; on Linux PyPI's own build brings gigabytes of it."""

WITH_TORCH = frozenset(
    {
        "cross-encoder",
        "distill",
        "eval",
        "eval-rag",
        "export",
        "local",
        "ray",
        "transformers",
    }
)
"""The extras that bring torch."""


def install_command(extra: str) -> str:
    """The command that brings an extra, to be run in a shell as it is.

    Where it would bring torch to a Linux machine that has none, torch without CUDA comes first.
    """
    command = f'pip install "jina-rerank[{extra}]"'
    needs_torch = not WITH_TORCH.isdisjoint(extra.split(","))
    if needs_torch and sys.platform == "linux" and not is_installed("torch"):
        return f"{CPU_BUILD} && {command}"
    return command


def check_installed(packages: tuple[str, ...], who: str, extra: str) -> None:
    """See that packages are installed.

    Args:
        packages: The names by which they are imported.
        who: What needs them.
        extra: The extra that brings them.

    Raises:
        ConfigurationError: One is not installed; the message names it and the command.
    """
    for package in packages:
        if not is_installed(package):
            raise missing(package, who, extra)


def is_installed(package: str) -> bool:
    """Tell whether a package can be imported, by the name under which it is."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # it was imported by somebody who left no specification
        return package in sys.modules


def missing(package: str | None, who: str, extra: str) -> ConfigurationError:
    """The error for a package that is not installed; arguments as for `check_installed`."""
    return missing_package(package, who, install_command(extra))


def missing_package(package: str | None, who: str, command: str) -> ConfigurationError:
    """The error for a package that no extra brings.

    Args:
        package: The name by which it is imported, such as `ImportError.name`.
        who: As for `check_installed`.
        command: Installs it.
    """
    return ConfigurationError(f"{who} needs {package}, which is not installed: {command}")


def check_scorer_installed(scorer: object) -> None:
    """Nothing, if the packages are there that the scorer says it needs; most say nothing.

    Raises:
        ConfigurationError: One is not installed.
    """
    check = getattr(scorer, "check_installed", None)
    if check is not None:
        check()

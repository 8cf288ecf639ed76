"""Optional packages: lookup without importing them, and one form of error if one is missing."""

from __future__ import annotations

import importlib.util
import sys

from .errors import ConfigurationError

CPU_BUILD = "pip install torch --index-url https://download.pytorch.org/whl/cpu"
"""The command that installs torch without CUDA; on Linux, PyPI's build brings gigabytes of CUDA."""

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
"""The extras that install torch."""


def install_command(extra: str) -> str:
    """Return the shell command that installs an extra.

    On a Linux machine without torch, an extra that needs torch gets torch without CUDA first.
    """
    command = f'pip install "jina-rerank[{extra}]"'
    needs_torch = not WITH_TORCH.isdisjoint(extra.split(","))
    if needs_torch and sys.platform == "linux" and not is_installed("torch"):
        return f"{CPU_BUILD} && {command}"
    return command


def check_installed(packages: tuple[str, ...], who: str, extra: str) -> None:
    """Check that packages are installed.

    Args:
        packages: Import names of the packages.
        who: Name of the feature that needs them, for errors.
        extra: The extra that installs them.

    Raises:
        ConfigurationError: A package is missing; the message names it and the command.
    """
    for package in packages:
        if not is_installed(package):
            raise missing(package, who, extra)


def is_installed(package: str) -> bool:
    """Tell whether a package can be imported; `package` is its import name."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a module that was imported without a `__spec__`
        return package in sys.modules


def missing(package: str | None, who: str, extra: str) -> ConfigurationError:
    """Build the error for a package that is not installed; arguments as for `check_installed`."""
    return missing_package(package, who, install_command(extra))


def missing_package(package: str | None, who: str, command: str) -> ConfigurationError:
    """Build the error for a package that is not installed, with any command that installs it.

    Args:
        package: Import name of the package, such as `ImportError.name`.
        who: As for `check_installed`.
        command: The command that installs it.
    """
    return ConfigurationError(f"{who} needs {package}, which is not installed: {command}")


def check_scorer_installed(scorer: object) -> None:
    """Check that a scorer's packages are installed, if it has a method `check_installed`.

    Raises:
        ConfigurationError: A package is missing.
    """
    check = getattr(scorer, "check_installed", None)
    if check is not None:
        check()

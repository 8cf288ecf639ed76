"""Packages that a scorer needs, looked for without importing them: torch alone takes seconds."""

from __future__ import annotations

import importlib.util
import sys

from ..errors import ConfigurationError


def check_installed(packages: tuple[str, ...], who: str, install: str) -> None:
    """Nothing, if all of them are there.

    Args:
        packages: The names by which they are imported.
        who: What needs them.
        install: The command that brings them.

    Raises:
        ConfigurationError: One is not installed; the message names it and the command.
    """
    for package in packages:
        if not is_installed(package):
            raise missing(package, who, install)


def is_installed(package: str) -> bool:
    """Tell whether a package can be imported, by the name under which it is."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # it was imported by somebody who left no specification
        return package in sys.modules


def missing(package: str | None, who: str, install: str) -> ConfigurationError:
    """The error for a package that is not installed; arguments as for `check_installed`."""
    return ConfigurationError(f"{who} needs {package}, which is not installed: {install}")


def check_scorer_installed(scorer: object) -> None:
    """Nothing, if the packages are there that the scorer says it needs; most say nothing.

    Raises:
        ConfigurationError: One is not installed.
    """
    check = getattr(scorer, "check_installed", None)
    if check is not None:
        check()

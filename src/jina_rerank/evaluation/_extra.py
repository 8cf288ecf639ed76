"""Imports of libraries that only evaluation needs, at the time of their use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .._installed import install_command, missing_package


def import_extra(module: str, install: str | None = None) -> Any:  # noqa: ANN401 - a module
    """Import a module and return it.

    Args:
        module: Name of the module.
        install: Command that installs it; None for that of the extra `eval`.

    Raises:
        ConfigurationError: It is not installed; the message names the command.
    """
    try:
        return import_module(module)
    except ImportError as error:
        command = install_command("eval") if install is None else install
        raise missing_package(error.name or module, "evaluation", command) from error

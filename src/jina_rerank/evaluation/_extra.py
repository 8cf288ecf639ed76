"""Libraries that only evaluation needs, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .._installed import missing

INSTALL_EVAL = 'pip install "jina-rerank[eval]"'


def import_extra(module: str, install: str = INSTALL_EVAL) -> Any:  # noqa: ANN401 - a module
    """The module.

    Args:
        module: Its name.
        install: The command that brings it.

    Raises:
        ConfigurationError: It is not installed; the message names the command.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise missing(error.name or module, "evaluation", install) from error

"""The `jina-rerank` command."""

import sys

from .._installed import install_command
from .streams import standard_streams


def main() -> None:
    """Run the command, or exit with a message about a missing package."""
    # Before anything opens a file, which could get the descriptor of a closed standard stream.
    with standard_streams():
        try:
            from .app import app
        except ImportError as error:
            sys.exit(
                f"jina-rerank: {error.name} is not installed; the command needs: "
                f"{install_command('local')}, or {install_command('onnx')}"
            )
        app()

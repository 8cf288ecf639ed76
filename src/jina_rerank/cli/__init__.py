"""The `jina-rerank` command."""

import sys


def main() -> None:
    """Run the command, or say what it needs to run."""
    try:
        from .app import app
    except ImportError as error:
        sys.exit(
            f"jina-rerank: {error.name} is not installed; the command needs: "
            'pip install "jina-rerank[local]"'
        )
    app()

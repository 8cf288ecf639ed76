"""The `jina-rerank` command."""

import sys

from .._installed import missing
from .streams import standard_streams


def main() -> None:
    """Run the command, or say what it needs to run."""
    # Before anything else opens a file: it could be taken for a stream that is closed.
    with standard_streams():
        try:
            from .app import app
        except ImportError as error:
            problem = missing(error.name, "the command", 'pip install "jina-rerank[local]"')
            sys.exit(f"jina-rerank: {problem}")
        app()

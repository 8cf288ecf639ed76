"""`python -m jina_rerank.cli`."""

from . import main

main()

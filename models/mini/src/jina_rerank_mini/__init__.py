"""Data of the embedded model jina-rerank-mini, and no code."""

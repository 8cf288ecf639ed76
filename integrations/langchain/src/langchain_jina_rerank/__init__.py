"""Reranking for LangChain: `JinaRerank`, a document compressor.

Importing this package loads neither torch nor transformers; a model's libraries are loaded with
the model.
"""

from .compressor import JinaRerank

__all__ = ["JinaRerank"]

__version__ = "0.2.0"

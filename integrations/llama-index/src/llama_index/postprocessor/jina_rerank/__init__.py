"""Rerank LlamaIndex nodes with a JinaBERT cross-encoder, offline and without a key."""

from .base import JinaRerank, RerankedNode

__all__ = ["JinaRerank", "RerankedNode"]

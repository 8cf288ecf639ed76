"""Rerank LlamaIndex nodes, offline with a JinaBERT cross-encoder or by a rerank service."""

from .base import JinaRerank
from .nodes import RerankedNode

__all__ = ["JinaRerank", "RerankedNode"]

__version__ = "0.2.0"

"""Reranking for Haystack with JinaBERT cross-encoders, offline and without a key.

>>> from haystack import Document
>>> from haystack_integrations.components.rankers.jina_rerank import JinaRanker
>>> documents = [Document(content="Rome is in Italy."), Document(content="Paris.")]
>>> JinaRanker(top_k=1).run("capital of France?", documents)["documents"][0].content
'Paris.'

`JinaRanker(backend="remote")` uses a rerank service instead, Jina's hosted one or any other.
"""

from ._documents import RankerOutput
from .ranker import JinaRanker

__all__ = ["JinaRanker", "RankerOutput"]

__version__ = "0.2.0"

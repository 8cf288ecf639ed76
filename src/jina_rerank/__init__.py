"""Reranking for retrieval-augmented generation: put the chunks that answer the query first.

    >>> from jina_rerank import Reranker
    >>> ranking = Reranker().rank("capital of France?", ["Rome is in Italy.", "Paris is."], top_n=1)
    >>> ranking[0].text
    'Paris is.'

Importing this loads neither torch nor any framework; a model's libraries are loaded with the
model.
"""

from .errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    InputError,
    InsufficientBalanceError,
    ModelLoadError,
    ModelNotFoundError,
    RateLimitError,
    RejectedInputError,
    RejectedSettingError,
    RequestTimeoutError,
    RerankError,
    ResponseError,
    ScoringError,
    ServerError,
    ServiceError,
)
from .ranking import RankedDocument, Ranking, Timings, Usage
from .reranker import Reranker
from .scorers.base import Progress, Scorer, ScoreRequest, ScoreResponse
from .scorers.bi_encoder import BiEncoderScorer
from .scorers.bm25 import Bm25Scorer
from .scorers.cache import CachedScorer
from .scorers.cross_encoder import CrossEncoderScorer
from .scorers.fallback import FallbackScorer, RetrievalOrder
from .scorers.local import LocalScorer
from .scorers.onnx import OnnxScorer
from .scorers.remote import RemoteScorer
from .scorers.sagemaker import SageMakerScorer
from .scorers.sparse_encoder import SparseEncoderScorer

__version__ = "0.2.0"

__all__ = [
    "AuthenticationError",
    "BiEncoderScorer",
    "Bm25Scorer",
    "CachedScorer",
    "ConfigurationError",
    "ConnectionFailedError",
    "CrossEncoderScorer",
    "FallbackScorer",
    "InputError",
    "InsufficientBalanceError",
    "LocalScorer",
    "ModelLoadError",
    "ModelNotFoundError",
    "OnnxScorer",
    "Progress",
    "RankedDocument",
    "Ranking",
    "RateLimitError",
    "RejectedInputError",
    "RejectedSettingError",
    "RemoteScorer",
    "RequestTimeoutError",
    "RerankError",
    "Reranker",
    "ResponseError",
    "RetrievalOrder",
    "SageMakerScorer",
    "ScoreRequest",
    "ScoreResponse",
    "Scorer",
    "ScoringError",
    "ServerError",
    "ServiceError",
    "SparseEncoderScorer",
    "Timings",
    "Usage",
]

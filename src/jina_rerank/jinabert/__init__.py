"""The JinaBERT reranker itself: configuration, tokenizer, checkpoint, forward pass.

Torch, `tokenizers` and `safetensors`; no transformers, and no remote code.
"""

from .alibi import alibi_slopes
from .config import JinaBertConfig
from .model import JinaBert
from .packing import pack
from .quantization import quantize_state
from .tokenizer import PairTokenizer, TokenPair

__all__ = [
    "JinaBert",
    "JinaBertConfig",
    "PairTokenizer",
    "TokenPair",
    "alibi_slopes",
    "pack",
    "quantize_state",
]

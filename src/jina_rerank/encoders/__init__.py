"""Encoder rerankers: families, tokenizer, checkpoint, forward pass, engines.

They need torch, `tokenizers` and `safetensors`, no transformers, and no remote code. Torch is
imported when `EncoderModel`, `JinaBert` or `save_checkpoint` is first accessed: `OnnxScorer` uses
the rest without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .alibi import alibi_slopes
from .architecture import Architecture
from .families import read_checkpoint, read_tokenizer
from .families.jinabert import JinaBertConfig
from .packing import pack
from .quantization import quantize_state
from .tokenizer import PairTokenizer, TokenPair

if TYPE_CHECKING:
    from .checkpoint import save_checkpoint
    from .jinabert import JinaBert
    from .model import EncoderModel

__all__ = [
    "Architecture",
    "EncoderModel",
    "JinaBert",
    "JinaBertConfig",
    "PairTokenizer",
    "TokenPair",
    "alibi_slopes",
    "pack",
    "quantize_state",
    "read_checkpoint",
    "read_tokenizer",
    "save_checkpoint",
]

_WITH_TORCH = {"EncoderModel": "model", "JinaBert": "jinabert", "save_checkpoint": "checkpoint"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the type depends on the name
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_WITH_TORCH[name]}", __name__), name)

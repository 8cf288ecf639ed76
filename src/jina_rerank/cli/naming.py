"""Description of models' names for help texts."""

from __future__ import annotations

from ..spec import NEED_COLLECTION, PREFIXES

MODEL_NAMES = ", ".join(
    [
        "A hub id or folder",
        *(words for prefix, words in PREFIXES.items() if prefix not in NEED_COLLECTION),
    ]
)
"""The names of models, as `scorer_of` takes them."""

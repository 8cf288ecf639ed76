"""An embedding model of sentence-transformers whose cosines can be had by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path


def write_word_vectors(folder: Path, vocabulary: Sequence[str]) -> Path:
    """A model that counts these words."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import BoW

    SentenceTransformer(modules=[BoW(list(vocabulary))]).save(str(folder))
    return folder


def cosine(vocabulary: Sequence[str], first: str, second: str) -> float:
    """The cosine that it must give two texts."""
    bags = [re.findall(r"\w+", text.lower()) for text in (first, second)]
    a, b = ([float(bag.count(word)) for word in vocabulary] for bag in bags)
    return sum(map(float.__mul__, a, b)) / (math.hypot(*a) * math.hypot(*b))

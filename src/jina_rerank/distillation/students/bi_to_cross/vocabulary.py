"""Codes and inverse document frequencies of a vocabulary's words.

They follow BM25: forms of a word with the same stem are one word, a rare word has a higher weight,
and stop words have none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from bm25s.stopwords import STOPWORDS_EN
from Stemmer import Stemmer
from tokenizers import Encoding, Tokenizer
from torch import Tensor

PIECE = "##"
"""The prefix of WordPiece's tokens that continue a word."""

ENDING = 2
"""Maximum letters of a continuing piece without a weight: it is most often an ending, or one of
many pieces of a name."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Codes and inverse document frequencies of the tokens of a vocabulary.

    Attributes:
        idf: Inverse document frequency of each token, from 0 to 1, shape (vocabulary,).
        codes: Code of each token, elements 1 and -1, shape (vocabulary, elements): the same for
            forms of a word, and otherwise random.
        start: Token id of [CLS].
    """

    idf: Tensor
    codes: Tensor
    start: int


def vocabulary_of(
    passages: Sequence[Encoding],
    tokenizer: Tokenizer,
    size: int,
    elements: int,
    generator: torch.Generator,
) -> Vocabulary:
    """Compute codes, and inverse document frequencies over passages.

    Args:
        passages: Passages in which words are counted.
        tokenizer: The passages' tokenizer; it has [CLS].
        size: Size of the vocabulary.
        elements: Number of elements of a code.
        generator: Random generator of the codes.
    """
    vocabulary = tokenizer.get_vocab()
    stem = Stemmer("english").stemWord
    stems = {
        number: token if token.startswith(PIECE) else stem(token)
        for token, number in vocabulary.items()
    }
    seen = Counter(one for text in passages for one in {stems[number] for number in text.ids})
    count = len(passages) + 1
    special = tokenizer.get_added_tokens_decoder()
    idf = torch.zeros(size)
    for token, number in vocabulary.items():
        if number not in special and _says_something(token):
            rarity = math.log(count / (seen[stems[number]] + 0.5))
            idf[number] = rarity / math.log(count / 0.5)
    places = {one: place for place, one in enumerate(sorted(set(stems.values())))}
    signs = torch.randint(2, (len(places), elements), generator=generator) * 2.0 - 1.0
    codes = torch.zeros(size, elements)
    for number, one in stems.items():
        codes[number] = signs[places[one]]
    return Vocabulary(idf, codes, vocabulary["[CLS]"])


def _says_something(token: str) -> bool:
    letters = token.removeprefix(PIECE)
    if letters != token and len(letters) <= ENDING:
        return False
    return token not in STOPWORDS_EN and any(one.isalnum() for one in letters)

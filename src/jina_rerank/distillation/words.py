"""Words, for a student that compares: which are the same, and what each is worth.

It is what BM25 goes by: forms of a word with one stem are one word, the rarer the more it says, and
what is in every English text says nothing.
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
"""The mark that WordPiece puts in front of a token that goes on with a word."""

ENDING = 2
"""Letters of a piece that is most often an ending, or one of many pieces of a name."""


@dataclass(frozen=True, slots=True)
class Words:
    """Facts about the tokens of a vocabulary.

    Attributes:
        worth: Inverse document frequency of each, from 0 to 1, shape (vocabulary,).
        codes: A row of 1 and -1 for each, the same for forms of a word and otherwise random, shape
            (vocabulary, elements).
        start: The number of [CLS].
    """

    worth: Tensor
    codes: Tensor
    start: int


def words_of(
    passages: Sequence[Encoding],
    tokenizer: Tokenizer,
    size: int,
    elements: int,
    generator: torch.Generator,
) -> Words:
    """Look at the words of passages.

    Args:
        passages: In which words are counted.
        tokenizer: Theirs; it has [CLS].
        size: Size of the vocabulary.
        elements: Elements of a code.
        generator: Source of the codes.
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
    worth = torch.zeros(size)
    for token, number in vocabulary.items():
        if number not in special and _says_something(token):
            rarity = math.log(count / (seen[stems[number]] + 0.5))
            worth[number] = rarity / math.log(count / 0.5)
    places = {one: place for place, one in enumerate(sorted(set(stems.values())))}
    signs = torch.randint(2, (len(places), elements), generator=generator) * 2.0 - 1.0
    codes = torch.zeros(size, elements)
    for number, one in stems.items():
        codes[number] = signs[places[one]]
    return Words(worth, codes, vocabulary["[CLS]"])


def _says_something(token: str) -> bool:
    letters = token.removeprefix(PIECE)
    if letters != token and len(letters) <= ENDING:
        return False
    return token not in STOPWORDS_EN and any(one.isalnum() for one in letters)

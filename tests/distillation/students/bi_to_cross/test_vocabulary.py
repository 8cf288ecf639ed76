"""A student's facts about words, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordPiece

from jina_rerank.distillation.students.bi_to_cross.vocabulary import Vocabulary, vocabulary_of

SPECIAL = ("[UNK]", "[CLS]", "[SEP]")
VOCABULARY = (*SPECIAL, "bean", "beans", "roast", "the", ".", "##s", "##ing", "##berry")


@pytest.fixture
def tokenizer() -> Tokenizer:
    numbers = {token: number for number, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def read(tokenizer: Tokenizer, passages: list[str], seed: int = 0) -> Vocabulary:
    generator = torch.Generator().manual_seed(seed)
    encoded = tokenizer.encode_batch(passages)
    # One row more than there are tokens: vocabularies are filled up.
    return vocabulary_of(encoded, tokenizer, len(VOCABULARY) + 1, 26, generator)


def test_the_rarer_a_word_is_the_more_it_is_worth(tokenizer) -> None:
    words = read(tokenizer, ["the bean.", "beans bean", "the roasting bean", "the"])
    idf = dict(zip(VOCABULARY, words.idf.tolist(), strict=False))
    # Of four passages three have a bean or beans, one a roast, and none a berry.
    assert idf["bean"] == idf["beans"] == pytest.approx(math.log(5 / 3.5) / math.log(10))
    assert idf["roast"] == idf["##ing"] == pytest.approx(math.log(5 / 1.5) / math.log(10))
    assert idf["##berry"] == pytest.approx(1.0)


def test_some_words_say_nothing(tokenizer) -> None:
    words = read(tokenizer, ["a roast"])
    idf = dict(zip(VOCABULARY, words.idf.tolist(), strict=False))
    assert {token for token in VOCABULARY if idf[token] == 0} == {*SPECIAL, "the", ".", "##s"}
    assert float(words.idf[-1]) == 0.0


def test_forms_of_a_word_have_one_code_and_others_another(tokenizer) -> None:
    words = read(tokenizer, ["bean"])
    codes = dict(zip(VOCABULARY, words.codes, strict=False))
    assert words.start == VOCABULARY.index("[CLS]")
    assert torch.equal(codes["bean"], codes["beans"])
    assert len({tuple(code.tolist()) for code in codes.values()}) == len(VOCABULARY) - 1
    assert set(words.codes[:-1].unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(read(tokenizer, ["bean"]).codes, words.codes)
    assert not torch.equal(read(tokenizer, ["bean"], seed=1).codes, words.codes)

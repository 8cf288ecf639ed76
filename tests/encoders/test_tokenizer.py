"""Pairs joined by ids against the tokenizer's own encoding of the pair."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from checkpoints import TOKENIZERS, bpe_tokenizer, wordpiece_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, processors

from jina_rerank import ModelLoadError
from jina_rerank.encoders import Architecture, JinaBertConfig, PairTokenizer

PLAIN = {name: make() for name, make in TOKENIZERS.items()}
PAIRS = {name: PairTokenizer(Tokenizer.from_str(t.to_str())) for name, t in PLAIN.items()}
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)


@given(query=text, document=text)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_as_the_tokenizer_itself_encodes_the_pair(kind: str, query: str, document: str) -> None:
    tokenizer = PAIRS[kind]
    query_ids, document_ids = tokenizer.encode([query, document])
    pair = tokenizer.pair(query_ids, document_ids)
    expected = PLAIN[kind].encode(query, document)
    assert list(pair.input_ids) == expected.ids
    assert list(pair.token_type_ids) == expected.type_ids
    assert len(pair) == tokenizer.special_tokens + len(query_ids) + len(document_ids)


def test_bpe_template_has_four_special_tokens_and_no_segments() -> None:
    tokenizer = PAIRS["bpe"]
    query, document = tokenizer.encode(["What is PANDA?", "hi"])
    pair = tokenizer.pair(query, document)
    assert list(pair.input_ids) == [0, *query, 2, 2, *document, 2]
    assert set(pair.token_type_ids) == {0}
    assert query == tokenizer.encode(["what is panda?"])[0], "the lower-casing is kept"


def test_wordpiece_template_has_segments() -> None:
    tokenizer = PAIRS["wordpiece"]
    query, document = tokenizer.encode(["panda", "paris france"])
    pair = tokenizer.pair(query, document)
    assert list(pair.input_ids) == [2, *query, 3, *document, 3]
    assert list(pair.token_type_ids) == [0] * (len(query) + 2) + [1] * (len(document) + 1)


def architecture(**sizes: int) -> Architecture:
    return JinaBertConfig(**{"vocab_size": 400, "type_vocab_size": 2, **sizes}).architecture()


def test_the_embeddings_have_a_row_for_every_token() -> None:
    tokenizer = bpe_tokenizer()
    tokenizer.add_tokens(["<extra>"])
    last = tokenizer.token_to_id("<extra>")
    PairTokenizer(tokenizer).check_rows(architecture(vocab_size=last + 1), "t.json")
    with pytest.raises(
        ValueError, match=rf"^vocab_size: {last} is too small .*; it needs {last + 1}$"
    ):
        PairTokenizer(tokenizer).check_rows(architecture(vocab_size=last), "t.json")


def test_the_embeddings_have_a_row_for_every_token_of_the_template() -> None:
    tokenizer = wordpiece_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A [SEP] $B", special_tokens=[("[CLS]", 2), ("[SEP]", 900)]
    )
    with pytest.raises(ValueError, match=r"^vocab_size: 400 is too small for t.json; it needs 901"):
        PairTokenizer(tokenizer).check_rows(architecture(), "t.json")


@pytest.mark.parametrize(("token_types", "text_positions"), [(2, 1), (2, 9), (1, 1)])
def test_a_model_of_one_token_type_reads_every_type_as_the_same(
    token_types: int, text_positions: int
) -> None:
    shape = architecture(type_vocab_size=token_types, text_positions=text_positions)
    PAIRS["wordpiece"].check_rows(shape, "t.json")


def test_the_embeddings_have_rows_for_every_token_type() -> None:
    with pytest.raises(
        ValueError, match=r"^type_vocab_size: 1 is too small for t.json; it needs 2$"
    ):
        PAIRS["wordpiece"].check_rows(architecture(type_vocab_size=1, text_positions=9), "t.json")
    tokenizer = wordpiece_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair="$A:2 [SEP] $B:1", special_tokens=[("[SEP]", 3)]
    )
    with pytest.raises(
        ValueError, match=r"^type_vocab_size: 2 is too small for t.json; it needs 3"
    ):
        PairTokenizer(tokenizer).check_rows(architecture(), "t.json")


def test_truncation_and_padding_in_the_file_are_switched_off(tmp_path: Path) -> None:
    stored = wordpiece_tokenizer()
    stored.enable_truncation(8)
    stored.enable_padding(length=8)
    stored.save(str(tmp_path / "tokenizer.json"))
    short, long = PairTokenizer.from_file(tmp_path / "tokenizer.json").encode(["a", "paris " * 50])
    assert (len(short), len(long)) == (1, 50)


def test_safe_under_threads() -> None:
    tokenizer = PairTokenizer(bpe_tokenizer())
    texts = [f"what is panda number {i}? " * (i % 7 + 1) for i in range(200)]
    expected = tokenizer.encode(texts)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: tokenizer.encode(texts), range(40)):
            assert found == expected


def test_no_template_for_pairs(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair="$B $A", special_tokens=[]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelLoadError, match=r"tokenizer\.json.*no template for pairs"):
        PairTokenizer.from_file(tmp_path / "tokenizer.json")


def test_a_file_that_is_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelLoadError, match=r"tokenizer\.json: cannot be read"):
        PairTokenizer.from_file(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(
    text=st.text(st.sampled_from("ab é漢😀\u0301\n\t panda👩"), min_size=1, max_size=12),
    tokens=st.integers(1, 12),
)
def test_the_first_tokens_are_of_whole_characters_and_blank_only_if_their_text_is(
    kind: str, text: str, tokens: int
) -> None:
    tokenizer = PAIRS[kind]
    (whole,), (first,) = tokenizer.encode([text]), tokenizer.encode_first([text], tokens)
    assert first == whole[: len(first)]
    if len(whole) <= tokens:
        assert first == whole
    backend = tokenizer._tokenizer.encode(text, add_special_tokens=False)
    end = max((last for _, last in backend.offsets[: len(first)]), default=0)
    # The next token begins where the kept text ends, and not within a character.
    assert all(last > end for _, last in backend.offsets[len(first) : len(first) + 1])
    # A character for which the vocabulary has nothing is no token.
    assert first == whole or bool(text[:end].strip()) == bool(text.strip())
    # It has no more tokens than it may, unless it ends with the first character that is visible.
    assert len(first) <= tokens or len(text[:end].split()) == 1

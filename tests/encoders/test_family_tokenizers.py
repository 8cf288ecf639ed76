"""The ids of every family's pairs are those of transformers' tokenizers."""

# ruff: noqa: RUF001 - letters of other scripts are meant

from collections.abc import Callable
from pathlib import Path

import pytest
from family_tokenizers import FAMILY_TOKENIZERS, SCRIPTS
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from jina_rerank.encoders import PairTokenizer

Tokenizers = tuple[PairTokenizer, list[PreTrainedTokenizerFast]]

TEXTS = {
    **{f"script {number}": text for number, text in enumerate(SCRIPTS, 1)},
    "emoji": "👩‍🚀 👨‍👩‍👧‍👦 🏳️‍🌈 👍🏽 ☕️ 🧑🏿‍🦱 #️⃣",
    "flags": "🇩🇪🇫🇷🇯🇵 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇩",
    "controls": "a\x01b\x07c\x1b[0m\x7f\x85\u200b\u200d\u2028d\ufeff\ufffd",
    "combining marks": "e\u0301 n\u0303 q\u0323\u0307 " + "Z" + "\u0335\u0321\u034c" * 9,
    "long words": f"{'a' * 99} {'b' * 100} {'c' * 101} {'漢' * 400} {'x' * 5000}",
    "blanks": "  two   three\t\ttabs\n\n\nlines \u00a0\u3000wide  ",
    "empty": "",
    "blank": " \t\n ",
    "special tokens": "[SEP] <s> </s> [MASK] <mask> a<pad>b [UNK] |||EMAIL_ADDRESS||| <|padding|>",
    "half pairs": "1/2 ½ ﬁ ﬀ Ⅷ ① ㎏ ｆｕｌｌ ﷺ",
    "mixed": "naïve咖啡café☕コーヒーقهوةкофе123,456.78€@#$%^&*()_+",
    "beyond the plane": "𝕳𝖊𝖑𝖑𝖔 𐍈 𓀀 𠜎",
}


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tokenizers]:
    loaded: dict[str, Tokenizers] = {}

    def load(kind: str) -> Tokenizers:
        if kind not in loaded:
            folder: Path = tmp_path_factory.mktemp("tokenizer")
            FAMILY_TOKENIZERS[kind](folder)
            theirs = [
                AutoTokenizer.from_pretrained(folder),
                PreTrainedTokenizerFast.from_pretrained(folder),
            ]
            loaded[kind] = PairTokenizer.from_file(folder / "tokenizer.json"), theirs
        return loaded[kind]

    return load


def check(tokenizers: Tokenizers, query: str, document: str) -> None:
    ours, theirs = tokenizers
    pair = ours.pair(*ours.encode([query, document]))
    for tokenizer in theirs:
        # As a batch of one: alone, transformers takes an empty document for no document.
        found = tokenizer([query], [document], return_token_type_ids=True, verbose=False)
        assert list(pair.input_ids) == found["input_ids"][0]
        if "token_type_ids" in tokenizer.model_input_names:
            assert list(pair.token_type_ids) == found["token_type_ids"][0]


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("kind", FAMILY_TOKENIZERS)
def test_the_ids_of_a_pair_are_those_of_transformers(tokenizers, kind: str, name: str) -> None:
    text = TEXTS[name]
    check(tokenizers(kind), text, f"{text} {SCRIPTS[0]}")
    check(tokenizers(kind), "what is it?", text)


@pytest.mark.parametrize("kind", FAMILY_TOKENIZERS)
@given(query=st.text(max_size=40), document=st.text(max_size=80))
@settings(max_examples=60)
def test_the_ids_of_any_pair_are_those_of_transformers(
    tokenizers, kind: str, query: str, document: str
) -> None:
    check(tokenizers(kind), query, document)


@pytest.mark.parametrize("kind", FAMILY_TOKENIZERS)
def test_the_small_vocabularies_know_the_scripts(tokenizers, kind: str) -> None:
    """Or the ids above would be those of unknown words, and alike for that."""
    ours, (theirs, _) = tokenizers(kind)
    known = [set(ids) - {theirs.unk_token_id} for ids in ours.encode(SCRIPTS)]
    assert all(len(ids) > 5 for ids in known)
    assert len({frozenset(ids) for ids in known}) == len(SCRIPTS)

"""Small tokenizers of each family, in the files that its checkpoints have."""

# ruff: noqa: RUF001 - letters of other scripts are meant

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

SCRIPTS = [
    "The quick brown fox jumps over the lazy dog; naïve façade, Straße, Œuvre.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر",
    "עטלף אבק נס דרך מזגן שהתפוצץ כי חם",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
    "视野无限广，窗外有蓝天。咖啡豆要放在密封罐里。",
    "いろはにほへと ちりぬるを コーヒー豆は密閉容器で保存する。",
    "키스의 고유조건은 입술끼리 만나야 하고",
    "ჩემი სახლი დიდია და ლამაზი",
    "සිංහල අකුරු තමිழ் எழுத்துக்கள்",
]
"""A sentence or two in each of twelve scripts."""

BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def _save(folder: Path, tokenizer: Tokenizer, **config: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def save_bert(folder: Path, *, lowercase: bool = True) -> None:
    """WordPiece as bert-base-uncased and ms-marco-MiniLM have it."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(
        SCRIPTS,
        trainers.WordPieceTrainer(vocab_size=600, special_tokens=BERT_SPECIAL, show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    _save(
        folder,
        tokenizer,
        tokenizer_class="BertTokenizer",
        do_lower_case=lowercase,
        model_max_length=512,
        **_bert_tokens(),
    )


def save_cased_bert(folder: Path) -> None:
    """As multilingual BERT."""
    save_bert(folder, lowercase=False)


def save_xlm_roberta(folder: Path) -> None:
    """SentencePiece Unigram with its table of characters, as bge-reranker and mMiniLM have it."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SCRIPTS),
        model_writer=written,
        vocab_size=400,
        hard_vocab_limit=False,
        minloglevel=3,
    )
    trained = sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())
    pieces = [(piece.piece, piece.score) for piece in trained.pieces[3:]]
    special = [(token, 0.0) for token in ROBERTA_SPECIAL]
    tokenizer = Tokenizer(models.Unigram([*special, *pieces, ("<mask>", 0.0)], unk_id=3))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(trained.normalizer_spec.precompiled_charsmap),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([*ROBERTA_SPECIAL, AddedToken("<mask>", lstrip=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    _save(
        folder,
        tokenizer,
        tokenizer_class="XLMRobertaTokenizer",
        model_max_length=512,
        **_roberta_tokens(),
    )


def save_roberta(folder: Path) -> None:
    """Byte-level BPE as RoBERTa has it."""
    tokenizer = _byte_level([*ROBERTA_SPECIAL, "<mask>"])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    _save(
        folder,
        tokenizer,
        tokenizer_class="RobertaTokenizer",
        model_max_length=512,
        add_prefix_space=False,
        **_roberta_tokens(),
    )


def save_modernbert(folder: Path) -> None:
    """Byte-level BPE with tokens for runs of blanks, as ModernBERT, gte, granite and Ettin."""
    tokenizer = _byte_level(BERT_SPECIAL)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken(" " * count, normalized=True) for count in range(2, 8)])
    tokenizer.add_tokens(["|||EMAIL_ADDRESS|||", AddedToken("<|padding|>", normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    _save(
        folder,
        tokenizer,
        tokenizer_class="PreTrainedTokenizerFast",
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=8192,
        clean_up_tokenization_spaces=True,
        **_bert_tokens(),
    )


def _byte_level(special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        SCRIPTS,
        trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


def _bert_tokens() -> dict[str, str]:
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return dict(zip(names, BERT_SPECIAL, strict=True))


def _roberta_tokens() -> dict[str, str]:
    return {
        **dict.fromkeys(("bos_token", "cls_token"), "<s>"),
        **dict.fromkeys(("eos_token", "sep_token"), "</s>"),
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }


FAMILY_TOKENIZERS: dict[str, Callable[[Path], None]] = {
    "bert": save_bert,
    "bert, cased": save_cased_bert,
    "xlm-roberta": save_xlm_roberta,
    "roberta": save_roberta,
    "modernbert": save_modernbert,
}
"""By family: writes tokenizer.json and tokenizer_config.json."""

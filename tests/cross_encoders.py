"""Small random rerankers as transformers saves them, with tokenizers of their kinds."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from checkpoints import TEXTS, bpe_tokenizer, wordpiece_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "initializer_range": 0.5,
    "num_labels": 1,
}


def unigram_tokenizer() -> Tokenizer:
    """A tokenizer of DeBERTa-v2's kind: sentencepiece unigram, `[CLS] a [SEP] b [SEP]`."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.UnigramTrainer(
            vocab_size=200,
            special_tokens=["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"],
            unk_token="[UNK]",
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return tokenizer


def bert(folder: Path) -> None:
    tokenizer = transformers.BertTokenizerFast(
        tokenizer_object=wordpiece_tokenizer(), model_max_length=64
    )
    config = transformers.BertConfig(vocab_size=400, max_position_embeddings=64, **SIZES)
    save(folder, transformers.BertForSequenceClassification(config), tokenizer)


def xlm_roberta(folder: Path) -> None:
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe_tokenizer(),
        model_input_names=["input_ids", "attention_mask"],
        bos_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        cls_token="<s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )
    config = transformers.XLMRobertaConfig(
        vocab_size=400, max_position_embeddings=66, pad_token_id=1, type_vocab_size=1, **SIZES
    )
    save(folder, transformers.XLMRobertaForSequenceClassification(config), tokenizer)


def deberta_v2(folder: Path) -> None:
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=unigram_tokenizer(),
        model_max_length=64,
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        mask_token="[MASK]",
    )
    config = transformers.DebertaV2Config(
        vocab_size=400,
        max_position_embeddings=64,
        relative_attention=True,
        position_buckets=16,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
        pooler_hidden_size=32,
        **SIZES,
    )
    save(folder, transformers.DebertaV2ForSequenceClassification(config), tokenizer)


def gpt2(folder: Path) -> None:
    """A decoder whose model and tokenizer know no padding."""
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain_tokenizer(),
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
        eos_token="</s>",
    )
    config = transformers.GPT2Config(vocab_size=400, n_positions=64, **SIZES)
    assert config.pad_token_id is None
    save(folder, transformers.GPT2ForSequenceClassification(config), tokenizer)


def llama(folder: Path, **ids: int) -> None:
    """A decoder whose own padding is not its tokenizer's, which is `<pad>`, the id 1."""
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain_tokenizer(),
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
        pad_token="<pad>",
    )
    config = transformers.LlamaConfig(
        vocab_size=400, max_position_embeddings=64, **SIZES, **{"pad_token_id": 4, **ids}
    )
    save(folder, transformers.LlamaForSequenceClassification(config), tokenizer)


def llama_without_padding(folder: Path) -> None:
    """As checkpoints of the first Llama say it."""
    llama(folder, pad_token_id=-1)


def plain_tokenizer() -> Tokenizer:
    """A tokenizer of GPT-2's kind: nothing is put around the texts of a pair, or between them."""
    tokenizer = bpe_tokenizer()
    tokenizer.post_processor = processors.ByteLevel()
    return tokenizer


def save(folder: Path, model: torch.nn.Module, tokenizer: object) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

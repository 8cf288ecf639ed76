"""Small random checkpoints in the format of the real ones."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from jina_rerank.encoders import JinaBert, JinaBertConfig
from jina_rerank.encoders.attention import attend
from jina_rerank.encoders.bias import Bias
from jina_rerank.encoders.block import Attend

TEXTS = [
    "what is panda? the giant panda is a bear species endemic to china.",
    "the capital of france is paris, and the capital of germany is berlin.",
    "a cross-encoder reads the query and the document together.",
    "coffee is brewed from roasted beans; espresso needs pressure.",
]


def random_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Queries and passages of the words of `TEXTS`, which say nothing."""
    chance = random.Random(seed)
    words = sorted({word for text in TEXTS for word in text.split()})
    return [
        (
            " ".join(chance.choices(words, k=chance.randint(2, 8))),
            " ".join(chance.choices(words, k=chance.randint(5, 40))),
        )
        for _ in range(count)
    ]


SMALL = {
    "vocab_size": 400,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}

TURBO = {
    "vocab_size": 61056,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}

# The fields that the originals have beside the sizes, as they have them.
FIELDS = {
    "architectures": ["JinaBertModel"],
    "model_type": "bert",
    "attention_probs_dropout_prob": 0.1,
    "attn_implementation": None,
    "auto_map": {"AutoModel": "modeling_bert.JinaBertModel"},
    "emb_pooler": "mean",
    "feed_forward_type": "geglu",
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 8192,
    "pad_token_id": 0,
    "position_embedding_type": "alibi",
    "torch_dtype": "bfloat16",
    "type_vocab_size": 2,
}


def random_model(seed: int = 0, **sizes: int | str) -> JinaBert:
    """A model with random weights, large enough that its logits differ between documents."""
    torch.manual_seed(seed)
    model = JinaBert(JinaBertConfig(**{**SMALL, **sizes})).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.normal_(0, 0.3)
    return model


def attention_of(bias: Bias) -> Attend[torch.Tensor]:
    """The attention of a layer in one sequence, with this bias."""

    def attention(*projected: torch.Tensor) -> torch.Tensor:
        heads = len(bias.slopes)
        q, k, v = (t.view(1, len(t), heads, -1).transpose(1, 2) for t in projected)
        return attend(q, k, v, bias).transpose(1, 2).flatten(2)[0]

    return attention


def write_config(folder: Path, **fields: object) -> None:
    config = {**FIELDS, **SMALL, **fields}
    (folder / "config.json").write_text(json.dumps(config))


def write_checkpoint(
    folder: Path, *, seed: int = 0, tokenizer: str = "bpe", **sizes: int | str
) -> Path:
    """config.json, tokenizer.json and model.safetensors of a random model."""
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, **sizes)
    save_file(random_model(seed, **sizes).state_dict(), folder / "model.safetensors")
    TOKENIZERS[tokenizer]().save(str(folder / "tokenizer.json"))
    return folder


def write_bert(folder: Path, *, layers: int, **changes: int | str) -> Path:
    """A random BERT encoder as transformers saves it, with a WordPiece tokenizer."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    tokenizer = wordpiece_tokenizer()
    bert = BertModel(
        BertConfig(
            vocab_size=tokenizer.get_vocab_size(),
            **{
                "hidden_size": 32,
                "num_hidden_layers": layers,
                "num_attention_heads": 4,
                "intermediate_size": 48,
                "initializer_range": 0.3,
                **changes,
            },
        )
    )
    bert.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def write_splade(folder: Path) -> Path:
    """A random masked language model, as transformers saves one."""
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    torch.manual_seed(3)
    tokenizer = wordpiece_tokenizer()
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BertConfig(vocab_size=tokenizer.get_vocab_size(), intermediate_size=37, **sizes)
    model = BertForMaskedLM(config)
    for name, parameter in model.named_parameters():
        # Norms that are not read would otherwise be seen by nobody.
        noise = 0.3 if "LayerNorm" in name else 0.1
        parameter.data += noise * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=512
    ).save_pretrained(folder)
    return folder


def bpe_tokenizer() -> Tokenizer:
    """A tokenizer like turbo's: lower-casing BPE, `<s> a </s></s> b </s>`, all types 0."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def wordpiece_tokenizer() -> Tokenizer:
    """A tokenizer of base's kind: WordPiece, `[CLS] a [SEP] b [SEP]`, types 0 and 1."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    # Not trained: the trainer breaks ties in another way in each process.
    words = {
        word
        for text in TEXTS
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    }
    letters = sorted({letter for word in words for letter in word})
    pieces = [f"##{letter}" for letter in letters]
    vocabulary = dict.fromkeys([*special, *letters, *pieces, *sorted(words)])
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


TOKENIZERS = {"bpe": bpe_tokenizer, "wordpiece": wordpiece_tokenizer}

"""Module lists, language models and prompts, against sentence-transformers' own `predict`."""

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import transformers
from checkpoints import TEXTS
from cross_encoders import SIZES, bert, deberta_v2, plain_tokenizer
from families import write_module_list
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from transformers import PreTrainedTokenizerFast

from jina_rerank import (
    ConfigurationError,
    CrossEncoderScorer,
    InputError,
    ModelLoadError,
    Reranker,
    ScoreRequest,
)

QUERY = "what is panda?"
DOCUMENTS = [*TEXTS, "", " paris", "\ncoffee ", "10 ÷ 3 — naïve 漢字 👩‍🚀", "coffee " * 9]
YES, NO = 40, 50

TEMPLATE = """\
{%- for message in messages if message.role == "system" %}S: {{ message.content }}
{% endfor -%}
Q: {{ (messages | selectattr("role", "eq", "query") | first).content }}
D: {{ (messages | selectattr("role", "eq", "document") | first).content }}
A:"""
"""A query and a document between words of the template, as Qwen3-Reranker has them."""


def tokenizer_of(pad: str | None = "<pad>", **options: object) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=plain_tokenizer(),
        model_max_length=128,
        model_input_names=["input_ids", "attention_mask"],
        eos_token="</s>",
        **({} if pad is None else {"pad_token": pad}),
        **options,
    )


def qwen3(folder: Path, *, template: str | None = TEMPLATE, **changes: object) -> None:
    """A small language model and LogitScore, as Qwen3-Reranker is for sentence-transformers."""
    config = transformers.Qwen3Config(
        **{
            "vocab_size": 400,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 128,
            "pad_token_id": 1,
            **{name: value for name, value in SIZES.items() if name != "num_labels"},
            **changes,
        }
    )
    options = {} if template is None else {"chat_template": template}
    model = transformers.Qwen3ForCausalLM(config)
    save_language_model(folder, model, tokenizer_of(**options), LogitScore(YES, NO))


def save_language_model(
    folder: Path, model: torch.nn.Module, tokenizer: object, score: LogitScore, **own: object
) -> None:
    decoder = folder.with_name(f"{folder.name}-decoder")
    model.save_pretrained(decoder)
    tokenizer.save_pretrained(decoder)
    transformer = Transformer(str(decoder), transformer_task="text-generation")
    CrossEncoder(modules=[transformer, score], device="cpu", **own).save(str(folder))


def qwen3_with_an_instruction(folder: Path) -> None:
    """Its default prompt is the template's system message."""
    qwen3(folder, tie_word_embeddings=True)
    change(
        folder / "config_sentence_transformers.json",
        prompts={"web": "find what answers"},
        default_prompt_name="web",
    )


def qwen3_without_a_template(folder: Path) -> None:
    qwen3(folder, template=None)


def gpt2_without_padding(folder: Path) -> None:
    """Positions from a table, no padding token, and the logit of one token as the score."""
    sizes = {name: value for name, value in SIZES.items() if name != "num_labels"}
    config = transformers.GPT2Config(vocab_size=400, n_positions=128, **sizes)
    model = transformers.GPT2LMHeadModel(config)
    save_language_model(folder, model, tokenizer_of(pad=None), LogitScore(YES))


def gpt2_with_padding(folder: Path) -> None:
    sizes = {name: value for name, value in SIZES.items() if name != "num_labels"}
    config = transformers.GPT2Config(vocab_size=400, n_positions=128, pad_token_id=1, **sizes)
    model = transformers.GPT2LMHeadModel(config)
    save_language_model(folder, model, tokenizer_of(), LogitScore(YES, NO))


def bert_with_a_prompt(folder: Path) -> None:
    """The prompt goes before the query."""
    plain = folder.with_name(f"{folder.name}-plain")
    bert(plain)
    encoder = CrossEncoder(str(plain), device="cpu")
    encoder.prompts, encoder.default_prompt_name = {"find": "coffee: "}, "find"
    encoder.save(str(folder))


def bert_with_another_activation(folder: Path) -> None:
    """As ms-marco-MiniLM, whose `predict` gives logits."""
    bert(folder)
    identity = "torch.nn.modules.linear.Identity"
    change(folder / "config.json", sbert_ce_default_activation_function=identity)


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def module_list(folder: Path) -> None:
    write_module_list(folder)


MODELS: dict[str, Callable[[Path], None]] = {
    "qwen3": qwen3,
    "qwen3, instruction": qwen3_with_an_instruction,
    "qwen3, no template": qwen3_without_a_template,
    "gpt2, no padding": gpt2_without_padding,
    "gpt2, padding": gpt2_with_padding,
    "module list": module_list,
    "bert, prompt": bert_with_a_prompt,
    "bert, activation": bert_with_another_activation,
    "deberta-v2": deberta_v2,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("model") / "model"
            torch.manual_seed(3)
            MODELS[kind](made[kind])
        return made[kind]

    return folder


@pytest.mark.parametrize("kind", MODELS)
def test_scores_are_those_that_predict_gives_for_each_pair_alone(folders, kind: str) -> None:
    encoder = CrossEncoder(str(folders(kind)), device="cpu")
    with Reranker(CrossEncoderScorer(folders(kind), dtype="float32")) as reranker:
        ranking = reranker.rank(QUERY, DOCUMENTS)
    assert len({hit.logit for hit in ranking}) == len(DOCUMENTS)
    for hit in ranking:
        pair = [(QUERY, hit.text)]
        if encoder.tokenizer.pad_token is None:
            # It pads a single pair too, and has no token for that.
            encoder.tokenizer.pad_token = encoder.tokenizer.eos_token
        (logit,) = encoder.predict(pair, activation_fn=torch.nn.Identity())
        assert hit.logit == pytest.approx(logit, abs=1e-4)
        assert hit.score == pytest.approx(torch.tensor(logit).sigmoid().item(), abs=1e-4)
        if isinstance(encoder.activation_fn, torch.nn.Sigmoid):
            assert hit.score == pytest.approx(encoder.predict(pair)[0], abs=1e-4)
        assert hit.truncated_tokens == 0


@pytest.mark.parametrize("kind", ["qwen3", "qwen3, instruction", "qwen3, no template"])
def test_a_long_document_is_cut_and_the_template_is_not(folders, kind: str) -> None:
    """With documents that begin alike, only what is cut differs; the logit is that of the rest."""
    encoder = CrossEncoder(str(folders(kind)), device="cpu")
    long = "paris coffee " * 60
    with Reranker(CrossEncoderScorer(folders(kind), dtype="float32", max_length=96)) as reranker:
        (hit,) = reranker.rank(QUERY, [long])
        total = len(encoder.tokenizer(long, add_special_tokens=False)["input_ids"])
        # The template's space and the first word are one token, as they are within the text.
        assert hit.tokens + hit.truncated_tokens == pytest.approx(total, abs=1)
        assert 0 < hit.tokens < 96
        (cut,) = [text for text in beginnings(long) if tokens_of(encoder, text) == 96]
        (logit,) = encoder.predict([(QUERY, cut)], activation_fn=torch.nn.Identity())
    assert hit.logit == pytest.approx(logit, abs=1e-4)


def beginnings(text: str) -> list[str]:
    return [text[:end].rstrip() for end in range(len(text)) if text[end] == " "]


def tokens_of(encoder: CrossEncoder, text: str) -> int:
    prompt = encoder.prompts.get(encoder.default_prompt_name)
    return int(encoder.preprocess([(QUERY, text)], prompt=prompt)["attention_mask"].sum())


def test_chunks_of_a_templated_pair_read_all_of_the_document(folders) -> None:
    scorer = CrossEncoderScorer(folders("qwen3"), dtype="float32", long_documents="chunk")
    with Reranker(scorer) as reranker:
        (hit,) = reranker.rank(QUERY, ["paris coffee " * 80])
    assert hit.truncated_tokens == 0
    assert hit.tokens == pytest.approx(160, abs=1), "all, and more than the 128 of a pair"


def test_calls_from_many_threads_get_the_same_scores(folders) -> None:
    """transformers' tokenizer, which renders the pairs, is no more than one thread's at a time."""
    with Reranker(CrossEncoderScorer(folders("qwen3"), dtype="float32")) as reranker:
        expected = reranker.score(QUERY, DOCUMENTS)
        with ThreadPoolExecutor(8) as pool:
            found = pool.map(lambda _: reranker.score(QUERY, DOCUMENTS), range(16))
            for scores in found:
                assert scores == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["qwen3", "qwen3, instruction", "module list"])
def test_in_bfloat16_documents_that_differ_do_not_tie(folders, kind: str) -> None:
    documents = [f"coffee is brewed {first} {second}" for first in TEXTS[:4] for second in "abcdef"]
    distinct = {}
    for dtype in ("float32", "bfloat16"):
        with Reranker(CrossEncoderScorer(folders(kind), dtype=dtype)) as reranker:
            logits = torch.tensor([hit.logit for hit in reranker.rank(QUERY, documents)])
        distinct[dtype] = len(logits.unique())
    assert distinct == {"float32": len(documents), "bfloat16": len(documents)}
    assert not torch.equal(logits, logits.bfloat16().float()), "the last product is in float32"


def test_a_head_that_the_weights_lack_is_refused(tmp_path: Path) -> None:
    """config.json names the class that has one; transformers would make a random one."""
    bert(tmp_path)
    path = tmp_path / "model.safetensors"
    rest = {n: t for n, t in load_file(path).items() if not n.startswith("classifier")}
    save_file(rest, path, metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match=r"lack classifier\.bias, classifier\.weight; not a"):
        CrossEncoderScorer(tmp_path).warm_up()


def test_an_encoder_of_a_language_model_is_refused(tmp_path: Path) -> None:
    qwen3(tmp_path / "model", tie_word_embeddings=True)
    change(tmp_path / "model" / "config.json", architectures=["Qwen3Model"])
    with pytest.raises(ModelLoadError, match="is Qwen3Model, not a reranker"):
        CrossEncoderScorer(tmp_path / "model").warm_up()


def test_a_module_list_with_two_outputs_is_refused(tmp_path: Path) -> None:
    write_module_list(tmp_path / "model")
    head = tmp_path / "model" / "4_Dense"
    change(head / "config.json", out_features=2)
    save_file(
        {"linear.weight": torch.ones(2, 48), "linear.bias": torch.ones(2)},
        head / "model.safetensors",
    )
    with pytest.raises(ModelLoadError, match="has 2 outputs; a reranker has one"):
        CrossEncoderScorer(tmp_path / "model").warm_up()


def test_a_module_list_without_a_score_is_refused(tmp_path: Path) -> None:
    write_module_list(tmp_path / "model")
    modules = json.loads((tmp_path / "model" / "modules.json").read_text())
    (tmp_path / "model" / "modules.json").write_text(json.dumps(modules[:2]))
    with pytest.raises(ModelLoadError, match="ends with Pooling, which gives no score"):
        CrossEncoderScorer(tmp_path / "model").warm_up()


def test_a_template_without_a_place_for_the_document_is_refused(tmp_path: Path) -> None:
    qwen3(tmp_path / "model", template="{{ messages[0].content }}")
    with pytest.raises(ModelLoadError, match="the 'document' content does not reach"):
        CrossEncoderScorer(tmp_path / "model").warm_up()


def test_a_template_that_leaves_no_room_names_max_length(tmp_path: Path) -> None:
    qwen3(tmp_path / "model", template=f"{'instruct ' * 4}{TEMPLATE}")
    with (
        Reranker(CrossEncoderScorer(tmp_path / "model", max_length=24)) as reranker,
        pytest.raises(ConfigurationError, match=r"max_length: 24 leaves no room .* template"),
    ):
        reranker.rank(QUERY, DOCUMENTS)


def test_a_long_query_is_cut_and_the_instruction_is_not(folders, caplog) -> None:
    scorer = CrossEncoderScorer(folders("qwen3, instruction"), dtype="float32")
    encoder = CrossEncoder(str(folders("qwen3, instruction")), device="cpu")
    query = "paris coffee " * 60
    with Reranker(scorer) as reranker, caplog.at_level(logging.WARNING):
        ranking = reranker.rank(query, ["beans"])
    share = len(encoder.tokenizer(query)["input_ids"]) - ranking.usage.truncated_query_tokens
    assert 0 < share < 64
    (cut,) = [t for t in beginnings(query) if len(encoder.tokenizer(t)["input_ids"]) == share]
    (logit,) = encoder.predict([(cut, "beans")], activation_fn=torch.nn.Identity())
    assert ranking[0].logit == pytest.approx(logit, abs=1e-4)
    assert "it is cut" in caplog.text


@pytest.mark.parametrize("kind", ["qwen3", "qwen3, instruction", "bert, prompt"])
def test_a_requests_instruction_goes_in_place_of_the_models_own(folders, kind: str) -> None:
    encoder = CrossEncoder(str(folders(kind)), device="cpu")
    wanted = "coffee beans: "
    asked = [
        ScoreRequest(QUERY, DOCUMENTS, instruction=wanted),
        ScoreRequest(QUERY, DOCUMENTS),
    ]
    scorer = CrossEncoderScorer(folders(kind), dtype="float32")
    own = encoder.prompts.get(encoder.default_prompt_name or "")
    for answer, prompt in zip(scorer.score(asked), (wanted, own), strict=True):
        for document, logit in zip(DOCUMENTS, answer.logits, strict=True):
            (expected,) = encoder.predict(
                [(QUERY, document)], prompt=prompt, activation_fn=torch.nn.Identity()
            )
            assert logit == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "template",
    [
        TEMPLATE.replace("system", "nobody"),
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + TEMPLATE,
    ],
)
def test_an_instruction_that_the_template_does_not_show_is_refused(
    tmp_path: Path, template: str
) -> None:
    qwen3(tmp_path / "model", template=template)
    scorer = CrossEncoderScorer(tmp_path / "model")
    with pytest.raises(InputError, match=r"instruction: the model's template takes none"):
        scorer.score([ScoreRequest(QUERY, DOCUMENTS, instruction="find coffee")])
    assert scorer.score([ScoreRequest(QUERY, DOCUMENTS)])


def test_an_instruction_that_leaves_no_room_is_named(folders) -> None:
    scorer = CrossEncoderScorer(folders("qwen3"), max_length=64)
    with pytest.raises(InputError, match=r"pairs\[0\]\.instruction: leaves no room"):
        scorer.score(
            [ScoreRequest(QUERY, DOCUMENTS, "pairs[0].", instruction="coffee beans " * 60)]
        )

"""Settings beside config.json, against sentence-transformers, which writes and reads them."""

import json
from pathlib import Path

import pytest
import torch
from cross_encoders import bert
from sentence_transformers import CrossEncoder
from torch.nn import Identity

from jina_rerank import CrossEncoderScorer, LocalScorer, ModelLoadError, OnnxScorer, Reranker
from jina_rerank.onnx import export_onnx

QUERY = "what is panda?"
DOCUMENTS = ["coffee", "paris coffee " * 20, "the giant panda is a bear"]
PROMPTS = "config_sentence_transformers.json"
INPUTS = "sentence_bert_config.json"
TOLERANCE = 1e-4
UNUSUAL = {"add_special_tokens": False, "max_length": 30}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A reranker whose files sentence-transformers wrote."""
    torch.manual_seed(0)
    bert(tmp_path / "encoder")
    CrossEncoder(str(tmp_path / "encoder"), device="cpu").save(str(tmp_path / "model"))
    return tmp_path / "model"


def change(file: Path, **fields: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def native(folder: Path) -> list[float | None]:
    ranking = Reranker(LocalScorer(folder, dtype="float32")).rank(QUERY, DOCUMENTS)
    return [hit.logit for hit in sorted(ranking, key=lambda hit: hit.index)]


def theirs(folder: Path) -> list[float]:
    model = CrossEncoder(str(folder), device="cpu")
    return model.predict([(QUERY, text) for text in DOCUMENTS], activation_fn=Identity()).tolist()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_seq_length": 20},
        {"processing_kwargs": {"text": {"max_length": 15}}},
        {"processing_kwargs": {"common": {"max_length": 30}}, "max_seq_length": 20},
        {"processing_kwargs": {"common": {"max_length": 30}, "text": {"max_length": 20}}},
        {"processing_kwargs": {"chat_template": {"max_length": 15}}},
        {"processing_kwargs": {"text": {"padding": True}}, "max_seq_length": None},
    ],
)
def test_lengths_are_read_as_sentence_transformers_reads_them(folder: Path, fields) -> None:
    change(folder / INPUTS, **fields)
    assert native(folder) == pytest.approx(theirs(folder), abs=TOLERANCE)


def test_its_length_goes_before_the_tokenizer_s(folder: Path) -> None:
    change(folder / "tokenizer_config.json", model_max_length=20)
    change(folder / INPUTS, max_seq_length=40)
    assert native(folder) == pytest.approx(theirs(folder), abs=TOLERANCE)
    ranking = Reranker(LocalScorer(folder)).rank(QUERY, DOCUMENTS)
    assert [hit.truncated_tokens for hit in ranking if hit.index == 1] == [7]


def test_an_export_has_the_length(folder: Path, tmp_path: Path) -> None:
    change(folder / INPUTS, max_seq_length=20)
    export_onnx(folder, tmp_path / "onnx")
    ranking = Reranker(OnnxScorer(tmp_path / "onnx")).rank(QUERY, DOCUMENTS)
    found = [hit.logit for hit in sorted(ranking, key=lambda hit: hit.index)]
    assert found == pytest.approx(native(folder), abs=TOLERANCE)


def test_prompts_that_nobody_asks_for_change_nothing(folder: Path) -> None:
    change(folder / PROMPTS, prompts={"web": "find what answers"})
    assert native(folder) == pytest.approx(theirs(folder), abs=TOLERANCE)


@pytest.mark.parametrize(
    ("file", "fields", "told"),
    [
        (PROMPTS, {"prompts": {"web": "panda"}, "default_prompt_name": "web"}, "is 'web', and no"),
        (INPUTS, {"do_lower_case": True}, "do_lower_case must be one of False, not True"),
        (INPUTS, {"processing_kwargs": {"text": UNUSUAL}}, "add_special_tokens of processing_kw"),
    ],
)
def test_what_would_change_the_texts_is_refused(folder: Path, file, fields, told) -> None:
    """Not silently left out: sentence-transformers gives other scores with it."""
    change(folder / file, **fields)
    with pytest.raises(ModelLoadError, match=f"{told}.* cross-encoder:{folder}$"):
        Reranker(LocalScorer(folder)).score(QUERY, DOCUMENTS)


def test_a_default_prompt_does_change_their_scores(folder: Path) -> None:
    plain = theirs(folder)
    change(folder / PROMPTS, prompts={"web": "panda"}, default_prompt_name="web")
    assert theirs(folder) != pytest.approx(plain, abs=TOLERANCE)


@pytest.mark.parametrize(
    "given",
    [
        {"text": UNUSUAL},
        {"text": {"return_token_type_ids": False}},
        {"common": {"max_length": 30}, "text": {"max_length": 15}},
    ],
)
def test_cross_encoder_reads_them_all(folder: Path, given) -> None:
    change(folder / INPUTS, processing_kwargs=given, max_seq_length=20)
    reranker = Reranker(CrossEncoderScorer(folder, dtype="float32"))
    found = sorted(reranker.rank(QUERY, DOCUMENTS), key=lambda hit: hit.index)
    assert [hit.logit for hit in found] == pytest.approx(theirs(folder), abs=TOLERANCE)


@pytest.mark.parametrize("names", [["input_ids", "attention_mask"], None])
def test_types_are_given_where_the_tokenizer_names_them(folder: Path, names) -> None:
    plain = native(folder)
    if names is not None:
        change(folder / "tokenizer_config.json", model_input_names=names)
    found = native(folder)
    assert found == pytest.approx(theirs(folder), abs=TOLERANCE)
    assert (found == plain) == (names is None)


def test_without_a_module_list_they_are_not_read(folder: Path) -> None:
    """As sentence-transformers does not read them either."""
    (folder / "modules.json").unlink()
    expected = theirs(folder)
    change(folder / PROMPTS, prompts={"web": "panda"}, default_prompt_name="web")
    (folder / INPUTS).write_text(json.dumps({"max_seq_length": 15}))
    assert theirs(folder) == pytest.approx(expected, abs=1e-6)
    assert native(folder) == pytest.approx(expected, abs=TOLERANCE)

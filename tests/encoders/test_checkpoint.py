"""Checkpoints that are loaded, and those refused by name of file and tensor."""

import io
import json
import pickle
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from checkpoints import TURBO, random_model, write_checkpoint, write_config
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from jina_rerank import LocalScorer, ModelLoadError
from jina_rerank.encoders import EncoderModel, JinaBert, JinaBertConfig, quantize_state
from jina_rerank.encoders.checkpoint import read_tensors

TINY = {**TURBO, "num_hidden_layers": 4}
BASE = {
    **TURBO,
    "vocab_size": 30528,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "intermediate_size": 3072,
}
IDS = torch.tensor([[0, 7, 8, 2, 2, 9, 2]])


@pytest.mark.parametrize(
    ("sizes", "tensors", "parameters"),
    [(TURBO, 98, 37_771_777), (TINY, 68, 33_046_273), (BASE, 188, 137_369_089)],
    ids=["turbo", "tiny", "base"],
)
def test_published_counts(sizes: dict[str, int], tensors: int, parameters: int) -> None:
    with torch.device("meta"):
        state = JinaBert(JinaBertConfig(**sizes)).state_dict()
    assert len(state) == tensors
    assert sum(tensor.numel() for tensor in state.values()) == parameters


def documented_names(layers: int) -> set[str]:
    """The names in the published checkpoints, written out by hand."""
    both = ("weight", "bias")
    names = {
        "bert.embeddings.word_embeddings.weight",
        "bert.embeddings.token_type_embeddings.weight",
        *(f"bert.embeddings.LayerNorm.{x}" for x in both),
        *(f"bert.pooler.dense.{x}" for x in both),
        *(f"classifier.{x}" for x in both),
    }
    for n in range(layers):
        layer = f"bert.encoder.layer.{n}"
        names.add(f"{layer}.mlp.gated_layers.weight")
        for part in (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
            "attention.output.LayerNorm",
            "mlp.wo",
            "mlp.layernorm",
        ):
            names |= {f"{layer}.{part}.{x}" for x in both}
    return names


@pytest.mark.parametrize("sizes", [TURBO, TINY, BASE], ids=["turbo", "tiny", "base"])
def test_tensor_names(sizes: dict[str, int]) -> None:
    with torch.device("meta"):
        state = JinaBert(JinaBertConfig(**sizes)).state_dict()
    assert set(state) == documented_names(sizes["num_hidden_layers"])


@pytest.mark.parametrize("sizes", [TURBO, TINY, BASE], ids=["turbo", "tiny", "base"])
def test_full_size_checkpoints_load(tmp_path: Path, sizes: dict[str, int]) -> None:
    write_config(tmp_path, **sizes)
    state = random_model(**sizes).bfloat16().state_dict()
    save_file(state, tmp_path / "model.safetensors")
    model = JinaBert.from_pretrained(tmp_path)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert model(IDS).isfinite().all()


def test_the_real_files_of_every_layout_give_the_same_model(tmp_path: Path) -> None:
    whole = write_checkpoint(tmp_path / "whole")
    expected = JinaBert.from_pretrained(whole).state_dict()
    state = load_file(whole / "model.safetensors")

    sharded = tmp_path / "sharded"
    sharded.mkdir()
    write_config(sharded)
    halves = sorted(state)[:10], sorted(state)[10:]
    weight_map = {}
    for i, names in enumerate(halves, 1):
        file = f"model-0000{i}-of-00002.safetensors"
        save_file({name: state[name] for name in names}, sharded / file)
        weight_map |= dict.fromkeys(names, file)
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    pickled = tmp_path / "pickled"
    pickled.mkdir()
    write_config(pickled)
    torch.save(state, pickled / "pytorch_model.bin")

    for folder in (sharded, pickled):
        found = JinaBert.from_pretrained(folder).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_buffers_of_the_original_are_dropped(small_checkpoint: Path, tmp_path: Path) -> None:
    state = load_file(small_checkpoint / "model.safetensors")
    state["bert.encoder.alibi"] = torch.zeros(1, 4, 8, 8)
    state["bert.embeddings.position_ids"] = torch.arange(8)
    write_config(tmp_path)
    save_file(state, tmp_path / "model.safetensors")
    JinaBert.from_pretrained(tmp_path)


def test_int8_rows_are_read(small_checkpoint: Path, tmp_path: Path) -> None:
    state = load_file(small_checkpoint / "model.safetensors")
    write_config(tmp_path, quantization="int8_rows")
    save_file(quantize_state(state), tmp_path / "model.safetensors")
    read = JinaBert.from_pretrained(tmp_path).state_dict()
    for name, tensor in state.items():
        # Half a step of a row whose largest magnitude is 127 steps.
        step = tensor.abs().amax(-1, keepdim=True) / 127 if tensor.ndim == 2 else 0
        assert ((read[name] - tensor).abs() <= 0.5001 * step + 1e-12).all()


def broken(folder: Path, **changes: torch.Tensor | None) -> Path:
    state = load_file(folder / "model.safetensors")
    for key, tensor in changes.items():
        name = key.replace("__", ".")
        if tensor is None:
            del state[name]
        else:
            state[name] = tensor
    save_file(state, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifier__weight": None}, r"model\.safetensors: lacks classifier\.weight"),
        ({"bert__extra": torch.ones(1)}, r"model\.safetensors: has bert\.extra"),
        (
            {"classifier__weight": torch.ones(2, 32)},
            r"model\.safetensors: classifier\.weight has shape \(2, 32\).* says \(1, 32\)",
        ),
        (
            {"classifier__bias": torch.tensor([float("nan")])},
            r"model\.safetensors: classifier\.bias holds NaN",
        ),
        (
            {"classifier__bias": torch.tensor([float("inf")])},
            r"model\.safetensors: classifier\.bias holds NaN or infinity",
        ),
        (
            {"classifier__weight": torch.ones(1, 32, dtype=torch.int8)},
            r"model\.safetensors: classifier\.weight is of int8, not floating-point",
        ),
        (
            {"classifier__weight": torch.ones(1, 32, dtype=torch.complex64)},
            r"model\.safetensors: classifier\.weight is of complex64, not floating-point",
        ),
    ],
)
def test_a_wrong_tensor_is_named(
    tmp_path: Path, changes: dict[str, torch.Tensor | None], message: str
) -> None:
    folder = broken(write_checkpoint(tmp_path), **changes)
    with pytest.raises(ModelLoadError, match=message):
        JinaBert.from_pretrained(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"position_embedding_type": "absolute"}, "not a JinaBERT reranker.*cross-encoder:MODEL"),
        ({"feed_forward_type": "swiglu"}, "not a JinaBERT reranker"),
        (
            {"feed_forward_type": "original", "hidden_act": "relu"},
            "hidden_act must be 'gelu' where feed_forward_type is 'original', not 'relu'",
        ),
        ({"num_attention_heads": 5}, "not a multiple"),
        ({"hidden_size": "384"}, "hidden_size must be a positive integer"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a positive integer"),
        ({"alibi_slopes": "steep"}, "alibi_slopes must be one of"),
        ({"attention_window": 0}, "attention_window must be a positive integer"),
        ({"quantization": "int2"}, "quantization must be one of"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps must be a positive number"),
        ({"layer_norm_eps": -1}, "layer_norm_eps must be a positive number"),
        ({"type_vocab_size": 0}, "type_vocab_size must be a positive integer"),
    ],
)
def test_a_wrong_configuration_is_named(
    tmp_path: Path, fields: dict[str, object], message: str
) -> None:
    write_checkpoint(tmp_path)
    write_config(tmp_path, **fields)
    with pytest.raises(ModelLoadError, match=rf"config\.json: .*{message}"):
        JinaBert.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "field",
    ["layer_norm_eps", "type_vocab_size", "text_positions", "attention_window", "alibi_slopes"],
)
def test_a_field_that_is_null_has_its_default(tmp_path: Path, field: str) -> None:
    expected = JinaBert.from_pretrained(write_checkpoint(tmp_path))(IDS)
    write_config(tmp_path, **{field: None})
    assert torch.equal(JinaBert.from_pretrained(tmp_path)(IDS), expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_attention_heads": 5}, "hidden_size 384 is not a multiple of num_attention_heads 5"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a positive integer, not 0"),
        ({"attention_window": True}, "attention_window must be a positive integer, not True"),
        ({"layer_norm_eps": -1.0}, "layer_norm_eps must be a positive number, not -1.0"),
        ({"feed_forward_type": "glu"}, "feed_forward_type must be one of .*, not 'glu'"),
    ],
)
def test_a_shape_that_cannot_be_built_is_named(fields: dict[str, object], message: str) -> None:
    JinaBertConfig().check()
    with pytest.raises(ValueError, match=f"^{message}$"):
        JinaBertConfig(**fields).check()


@pytest.mark.parametrize("text", ["", "{", "[]", "\udc80"])
def test_a_configuration_that_is_no_json(tmp_path: Path, text: str) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        JinaBert.from_pretrained(tmp_path)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a checkpoint",
        b"\x80\x02",
        b"hello",
        b"<html>",
        b"(",
        b"K",
        b"}",
        b"PK\x03\x04",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 1\n",
        pickle.dumps({1: 2}),
    ],
)
def test_weights_that_cannot_be_read(tmp_path: Path, file: str, content: bytes) -> None:
    write_config(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ModelLoadError, match=file):
        JinaBert.from_pretrained(tmp_path)


@given(damage=st.dictionaries(st.integers(0, 10**6), st.integers(0, 255), max_size=6))
@settings(max_examples=200)
def test_a_damaged_pickle_is_read_or_refused(damage: dict[int, int]) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3, 4)}, buffer)
    content = bytearray(buffer.getvalue())
    for place, value in damage.items():
        content[place % len(content)] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pytorch_model.bin"
        path.write_bytes(content)
        with suppress(ModelLoadError):
            assert all(isinstance(name, str) for name in read_tensors(path))


def test_tensors_without_names_are_refused(tmp_path: Path) -> None:
    write_config(tmp_path)
    torch.save({1: torch.ones(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match=r"pytorch_model\.bin: is not a dictionary of tensors"):
        JinaBert.from_pretrained(tmp_path)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("exploded"),))


def test_a_pickle_is_never_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Bomb()}, protocol=2))
    with pytest.raises(ModelLoadError, match=r"pytorch_model\.bin"):
        JinaBert.from_pretrained(tmp_path)
    assert not Path("exploded").exists()


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ModelLoadError, match=missing.replace(".", r"\.")):
        JinaBert.from_pretrained(tmp_path)


def test_a_shard_outside_the_folder_is_refused(tmp_path: Path) -> None:
    write_config(tmp_path)
    index = {"weight_map": {"classifier.weight": "../secret.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelLoadError, match="plain file names"):
        JinaBert.from_pretrained(tmp_path)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="no such folder"):
        JinaBert.from_pretrained(tmp_path / "absent")


def test_shards_of_pickled_weights_are_read(small_checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small_checkpoint, tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards = [dict(list(state.items())[i::2]) for i in range(2)]
    files = [f"pytorch_model-0000{i + 1}-of-00002.bin" for i in range(2)]
    for own, file in zip(shards, files, strict=True):
        torch.save(own, folder / file)
    places = {name: file for own, file in zip(shards, files, strict=True) for name in own}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    expected, found = (EncoderModel.from_pretrained(own) for own in (small_checkpoint, folder))
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, rtol=0, atol=0)


def test_an_adapter_without_its_model_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelLoadError, match=r"is an adapter of peft .* merge_and_unload"):
        EncoderModel.from_pretrained(tmp_path)


def test_a_tokenizer_of_another_kind_is_told_what_may_run_it(
    small_checkpoint: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(small_checkpoint, tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelLoadError, match=f"has no tokenizer.json.* cross-encoder:{folder}$"):
        LocalScorer(folder).warm_up()

"""The exported graph against torch, against values computed elsewhere, and what is in it."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from checkpoints import random_model, write_checkpoint
from families import KINDS, write_module_list, write_reranker
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime import InferenceSession
from safetensors.torch import load_file, save_file

from jina_rerank import ConfigurationError, InputError, ModelLoadError
from jina_rerank.embedded import embedded_model_folder
from jina_rerank.encoders import EncoderModel, JinaBert, JinaBertConfig
from jina_rerank.encoders.quantization import dequantize_rows, quantize_rows
from jina_rerank.onnx import export, export_onnx
from jina_rerank.onnx.files import read_int8_rows
from jina_rerank.onnx.graph import build_model
from jina_rerank.onnx.nodes import Int8Rows


def session_of(model: JinaBert) -> InferenceSession:
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    proto = build_model(model.architecture, weights)
    onnx.checker.check_model(proto, full_check=True)
    return InferenceSession(proto.SerializeToString())


def logits_of(session: InferenceSession, ids, mask=None, types=None) -> np.ndarray:
    ids = np.asarray(ids)
    mask = np.ones_like(ids) if mask is None else np.asarray(mask)
    types = np.zeros_like(ids) if types is None else np.asarray(types)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    names = [value.name for value in session.get_inputs()]
    (logits,) = session.run(["logits"], {name: inputs[name] for name in names})
    assert logits.shape == (len(ids), 1)
    assert logits.dtype == np.float32
    return logits[:, 0]


@pytest.mark.parametrize("case", range(5))
def test_golden_logits(golden: Path, case: int) -> None:
    values = np.load(golden / "golden.npz")
    session = session_of(JinaBert.from_pretrained(golden))
    names = ("input_ids", "attention_mask", "token_type_ids")
    logits = logits_of(session, *(values[f"case{case}_{name}"] for name in names))
    np.testing.assert_allclose(logits, values[f"case{case}_logits_f64"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("feed_forward_type", ["geglu", "reglu", "original"])
@pytest.mark.parametrize("slopes", ["reranker", "paper", "faint"])
@pytest.mark.parametrize("heads", [4, 8, 12])
def test_same_logits_as_torch_at_every_length(
    heads: int, slopes: str, feed_forward_type: str
) -> None:
    model = random_model(
        hidden_size=96,
        num_attention_heads=heads,
        alibi_slopes=slopes,
        feed_forward_type=feed_forward_type,
    )
    session = session_of(model)
    lengths = torch.tensor([1100, 1099, 300, 64, 2, 1])
    generator = torch.Generator().manual_seed(heads)
    for longest in (1100, 1200):  # without padding in the longest row, and with
        ids = torch.randint(400, (len(lengths), longest), generator=generator)
        types = torch.randint(2, ids.shape, generator=generator)
        mask = (torch.arange(longest) < lengths[:, None]).long()
        expected = model(ids, mask, types)
        np.testing.assert_allclose(
            logits_of(session, ids, mask, types), expected, atol=1e-4, rtol=1e-4
        )
    for row, length in enumerate(lengths.tolist()):
        alone = logits_of(session, ids[[row], :length], None, types[[row], :length])
        np.testing.assert_allclose(alone, expected[[row]], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("window", [1, 100, 166, 299, 300])
def test_nobody_sees_beyond_the_window(window: int) -> None:
    model = random_model(num_hidden_layers=3, attention_window=window)
    ids = torch.randint(400, (3, 600), generator=torch.Generator().manual_seed(window))
    mask = (torch.arange(600) < torch.tensor([[600], [333], [50]])).long()
    logits = logits_of(session_of(model), ids, mask)
    np.testing.assert_allclose(logits, model(ids, mask), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("integers", [False, True])
def test_places_in_texts(integers: bool) -> None:
    model = random_model(hidden_size=48, text_positions=9)
    weights: dict[str, np.ndarray | Int8Rows] = {
        name: tensor.numpy() for name, tensor in model.state_dict().items()
    }
    if integers:
        table = model.bert.embeddings.token_type_embeddings.weight
        rows, scale = quantize_rows(table)
        table[:] = dequantize_rows(rows, scale, table.dtype)
        name = "bert.embeddings.token_type_embeddings.weight"
        weights[name] = Int8Rows(rows.numpy(), scale.numpy())
    session = InferenceSession(build_model(model.architecture, weights).SerializeToString())
    ids = torch.randint(400, (3, 40), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(40) < torch.tensor([[40], [33], [5]])).long()
    # One with two long texts, one whose second text is blank, one that is short.
    types = (torch.arange(40) >= torch.tensor([[20], [32], [2]])).long() * mask
    expected = model(ids, mask, types)
    np.testing.assert_allclose(logits_of(session, ids, mask, types), expected, atol=1e-4, rtol=0)


TWELVE_HEADS = random_model(hidden_size=48, num_attention_heads=12)
TWELVE_HEADS_SESSION = session_of(TWELVE_HEADS)
rows_of_ids = st.lists(
    st.lists(st.integers(0, 399), min_size=1, max_size=60), min_size=1, max_size=8
)


@given(rows=rows_of_ids, extra=st.integers(0, 40), fill=st.integers(0, 399), data=st.data())
def test_a_logit_depends_on_its_pair_alone(
    rows: list[list[int]], extra: int, fill: int, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    alone = np.concatenate([logits_of(TWELVE_HEADS_SESSION, [row]) for row in rows])
    longest = max(map(len, rows)) + extra
    ids = [rows[i] + [fill] * (longest - len(rows[i])) for i in order]
    mask = [[1] * len(rows[i]) + [0] * (longest - len(rows[i])) for i in order]
    together = logits_of(TWELVE_HEADS_SESSION, ids, mask)
    np.testing.assert_allclose(together, alone[order], atol=1e-5, rtol=0)


def test_a_row_without_any_token_gives_no_nan() -> None:
    ids = np.full((2, 40), 7)
    mask = np.array([[1] * 40, [0] * 40])
    logits = logits_of(TWELVE_HEADS_SESSION, ids, mask)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits[:1], logits_of(TWELVE_HEADS_SESSION, ids[:1]), atol=1e-5)


def test_one_layer_alone() -> None:
    model = random_model(num_hidden_layers=1)
    ids = torch.randint(400, (2, 30), generator=torch.Generator().manual_seed(3))
    np.testing.assert_allclose(logits_of(session_of(model), ids), model(ids), atol=1e-5)


@pytest.mark.parametrize("int8", [False, True])
def test_standard_operators_and_no_constant_beyond_the_weights(
    small_checkpoint: Path, tmp_path: Path, int8: bool
) -> None:
    path = export_onnx(small_checkpoint, tmp_path, int8=int8)
    onnx.checker.check_model(path, full_check=True)
    proto = onnx.load(path)
    assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", 17)]
    assert {node.domain for node in proto.graph.node} == {""}
    largest = max(
        tensor.numel() for tensor in load_file(small_checkpoint / "model.safetensors").values()
    )
    sizes = [int(np.prod(constant.dims)) for constant in proto.graph.initializer]
    assert max(sizes) == largest
    assert not [node for node in proto.graph.node if node.op_type == "Constant"]


def test_the_folder_has_all_that_is_needed(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", alibi_slopes="paper")
    path = export_onnx(source, tmp_path / "a" / "b")
    assert path == tmp_path / "a" / "b" / "model.onnx"
    assert {file.name for file in path.parent.iterdir()} == {
        "config.json",
        "model.onnx",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert JinaBertConfig.from_file(path.with_name("config.json")).alibi_slopes == "paper"
    tokenizers = [folder / "tokenizer.json" for folder in (source, path.parent)]
    assert tokenizers[0].read_bytes() == tokenizers[1].read_bytes()


def test_the_embedded_model_is_no_longer_stored_as_its_configuration_said(tmp_path: Path) -> None:
    path = export_onnx(None, tmp_path)
    assert "quantization" not in json.loads(path.with_name("config.json").read_text())
    ids = np.arange(1000, 1040)[None]
    expected = JinaBert.from_pretrained(embedded_model_folder())(torch.from_numpy(ids))
    logits = logits_of(InferenceSession(path), ids)
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)


def test_the_embedded_models_weights_read_without_torch_are_the_same() -> None:
    folder = embedded_model_folder()
    expected = JinaBert.from_pretrained(folder).state_dict()
    weights = read_int8_rows(folder)
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        found = weights[name]
        array = found if isinstance(found, np.ndarray) else found.dequantized()
        assert torch.equal(torch.from_numpy(array), tensor), name


def test_int8_is_small_and_near(tmp_path: Path) -> None:
    exact, small = (export_onnx(None, tmp_path / str(i), int8=bool(i)) for i in range(2))
    assert small.stat().st_size < 0.26 * exact.stat().st_size
    ids = np.random.default_rng(0).integers(1000, 30_000, (8, 60))
    difference = logits_of(InferenceSession(exact), ids) - logits_of(InferenceSession(small), ids)
    assert 0 < np.abs(difference).max() < 0.6


def test_no_row_takes_precision_from_another_in_int8(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", hidden_size=64)
    session = InferenceSession(export_onnx(checkpoint, tmp_path / "onnx", int8=True))
    rng = np.random.default_rng(1)
    rows = [rng.integers(5, 400, length) for length in (60, 3, 31, 60)]
    alone = np.concatenate([logits_of(session, [row]) for row in rows])
    ids, mask = np.full((4, 70), 7), np.zeros((4, 70), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    # Sums in another order may round an activation to its neighbour.
    np.testing.assert_allclose(logits_of(session, ids, mask), alone, atol=0.01, rtol=0)


@pytest.mark.parametrize("wide", [False, True])
def test_products_with_a_wide_head_are_computed_in_float32(tmp_path: Path, wide: bool) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", num_hidden_layers=2, num_attention_heads=6,
                                  hidden_size=48)  # fmt: skip
    state = load_file(checkpoint / "model.safetensors")
    for part in ("query", "key"):
        state[f"bert.encoder.layer.0.attention.self.{part}.weight"][8:16] *= 3 if wide else 1
    save_file(state, checkpoint / "model.safetensors", {"format": "pt"})
    proto = onnx.load(export_onnx(checkpoint, tmp_path / "onnx", int8=True))
    multiplied = {node.input[1] for node in proto.graph.node if node.op_type == "MatMulInteger"}
    name = "bert.encoder.layer.0.attention.self.{}.weight"
    in_integers = [name.format(part) in multiplied for part in ("query", "key", "value")]
    assert in_integers == [not wide, not wide, True]


@pytest.mark.parametrize("kind", [*KINDS, "module list"])
def test_int8_is_near_in_every_family(kind: str, tmp_path: Path) -> None:
    if kind == "module list":
        write_module_list(tmp_path / "model", pooling="mean")
    else:
        write_reranker(tmp_path / "model", kind)
    session = InferenceSession(export_onnx(tmp_path / "model", tmp_path / "onnx", int8=True))
    ids = torch.randint(5, 200, (6, 50), generator=torch.Generator().manual_seed(0))
    expected = EncoderModel.from_pretrained(tmp_path / "model")(ids).numpy()
    off = np.abs(logits_of(session, ids) - expected)
    assert 0 < off.max() < 0.05 * (np.abs(expected).max() + 1)


def test_weights_beyond_protobufs_limit_lie_beside_the_graph(
    small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = export_onnx(small_checkpoint, tmp_path / "whole")
    monkeypatch.setattr(export, "LARGEST_FILE", 10_000)
    parted = export_onnx(small_checkpoint, tmp_path / "parted")
    assert parted.with_name("model.onnx_data").stat().st_size > parted.stat().st_size
    ids = np.arange(5, 50)[None]
    np.testing.assert_array_equal(
        logits_of(InferenceSession(parted), ids), logits_of(InferenceSession(whole), ids)
    )


def test_nothing_is_written_over(small_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(InputError, match=r"^folder: .* is not empty; name another"):
        export_onnx(small_checkpoint, tmp_path)
    with pytest.raises(InputError, match=r"^folder: .* cannot be made"):
        export_onnx(small_checkpoint, tmp_path / "mine")
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_what_is_no_reranker_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="no such folder"):
        export_onnx(tmp_path / "absent", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_named(
    small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        ConfigurationError, match=r'needs onnx.*pip install "jina-rerank\[export\]"'
    ):
        export_onnx(small_checkpoint, tmp_path / "out")

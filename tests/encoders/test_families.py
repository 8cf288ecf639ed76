"""Rerankers of every family give the logits of transformers' own classes, in every engine."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from families import KINDS, logits_of, write_module_list, write_reranker
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jina_rerank import ModelLoadError
from jina_rerank.encoders import EncoderModel
from jina_rerank.encoders.cpu import CpuEngine
from jina_rerank.encoders.flex import FlexEncoder
from jina_rerank.encoders.fused import FusedEncoder
from jina_rerank.encoders.products import can_fuse
from jina_rerank.onnx.graph import build_model

TOLERANCE = 1e-5
LENGTHS = [1, 2, 9, 9, 40, 64, 65, 130, 300]

# FlexAttention runs uncompiled here, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")

ALL = [*KINDS, "module list", "module list, mean, no norm"]


def write(folder: Path, kind: str) -> object:
    if kind == "module list":
        return write_module_list(folder)
    if kind == "module list, mean, no norm":
        return write_module_list(folder, norm=False, pooling="mean")
    return write_reranker(folder, kind)


@pytest.fixture(scope="module", params=ALL)
def reranker(request: pytest.FixtureRequest, tmp_path_factory) -> tuple[EncoderModel, object]:
    folder = tmp_path_factory.mktemp("family") / "model"
    original = write(folder, request.param)
    return EncoderModel.from_pretrained(folder), original


def sequences(lengths: Sequence[int], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(5, 200, (length,), generator=generator) for length in lengths]


Forward = Callable[[EncoderModel, Tensor, list[int]], Tensor]


def plain(model: EncoderModel, ids: Tensor, lengths: list[int]) -> Tensor:
    return model.forward_packed(ids, lengths)


def fused(model: EncoderModel, ids: Tensor, lengths: list[int]) -> Tensor:
    if not can_fuse(torch.float32):
        pytest.skip("this torch has no fused kernels for this processor")
    return model.forward_packed(ids, lengths, encode=FusedEncoder(model))


def shared_out(model: EncoderModel, ids: Tensor, lengths: list[int]) -> Tensor:
    return CpuEngine(model)(ids, lengths)


def flex(model: EncoderModel, ids: Tensor, lengths: list[int]) -> Tensor:
    return model.forward_packed(ids, lengths, encode=FlexEncoder(model, backend=None))


def padded(model: EncoderModel, ids: Tensor, lengths: list[int]) -> Tensor:
    rows = torch.split(ids, lengths)
    batch = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=3)
    mask = torch.arange(batch.shape[1]) < torch.tensor(lengths)[:, None]
    return model(batch, mask)


def onnx(model: EncoderModel, ids: Tensor, lengths: list[int]) -> Tensor:
    from onnxruntime import InferenceSession

    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    session = InferenceSession(build_model(model.architecture, weights).SerializeToString())
    batch = np.full((len(lengths), max(lengths)), 3, np.int64)
    mask = np.zeros_like(batch)
    for row, own in enumerate(torch.split(ids, lengths)):
        batch[row, : len(own)], mask[row, : len(own)] = own, 1
    given = {"input_ids": batch, "attention_mask": mask, "token_type_ids": np.zeros_like(batch)}
    names = [value.name for value in session.get_inputs()]
    (logits,) = session.run(["logits"], {name: given[name] for name in names})
    return torch.from_numpy(logits[:, 0])


@pytest.mark.parametrize("forward", [plain, fused, shared_out, flex, padded, onnx])
def test_the_logits_are_those_of_the_family_s_own_classes(reranker, forward: Forward) -> None:
    model, original = reranker
    rows = sequences(LENGTHS)
    found = forward(model, torch.cat(rows), LENGTHS)
    expected = logits_of(original, rows)
    assert expected.std() > 0.01  # or the weights say nothing
    torch.testing.assert_close(found.double(), expected, atol=TOLERANCE, rtol=0)


@given(lengths=st.lists(st.integers(1, 120), min_size=1, max_size=8), data=st.data())
@settings(max_examples=15, deadline=None)
def test_a_logit_depends_on_its_pair_alone(reranker, lengths: list[int], data) -> None:
    model, _ = reranker
    rows = sequences(lengths)
    alone = torch.cat([model.forward_packed(row, [len(row)]) for row in rows])
    order = data.draw(st.permutations(range(len(rows))))
    engine = CpuEngine(model)
    together = engine(torch.cat([rows[i] for i in order]), [lengths[i] for i in order])
    torch.testing.assert_close(together, alone[order], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", ["modernbert", "modernbert, mean"])
@pytest.mark.parametrize("length", [700, 1536, 2600])
def test_long_pairs_of_modernbert(tmp_path: Path, kind: str, length: int) -> None:
    original = write_reranker(tmp_path, kind)
    rows = sequences([length, length, 5])
    found = CpuEngine(EncoderModel.from_pretrained(tmp_path))(torch.cat(rows), [length, length, 5])
    expected = logits_of(original, rows)
    torch.testing.assert_close(found.double(), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", ["xlm-roberta", "roberta"])
def test_roberta_counts_no_positions_for_padding_tokens_within_a_text(tmp_path, kind) -> None:
    original = write_reranker(tmp_path, kind)
    rows = [torch.tensor([0, 9, 1, 1, 30, 2]), torch.tensor([1, 7, 2]), torch.tensor([0, 1])]
    model = EncoderModel.from_pretrained(tmp_path)
    found = model.forward_packed(torch.cat(rows), [6, 3, 2])
    expected = logits_of(original, rows)
    torch.testing.assert_close(found.double(), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_at_the_last_position_of_the_table(tmp_path: Path, kind: str) -> None:
    original = write_reranker(tmp_path, kind, max_position_embeddings=66)
    model = EncoderModel.from_pretrained(tmp_path)
    longest = model.architecture.max_length
    assert longest == (66 if kind == "bert" else 64)
    rows = sequences([longest])
    found = CpuEngine(model)(rows[0], [longest])
    torch.testing.assert_close(found.double(), logits_of(original, rows), atol=TOLERANCE, rtol=0)


def test_types_are_read_where_the_family_has_them(tmp_path: Path) -> None:
    original = write_reranker(tmp_path, "bert")
    ids, types = sequences([30])[0], (torch.arange(30) > 12).long()
    found = EncoderModel.from_pretrained(tmp_path).forward_packed(ids, [30], types)
    expected = original(input_ids=ids[None], token_type_ids=types[None]).logits
    assert found.item() == pytest.approx(expected.item(), abs=TOLERANCE)
    assert abs(expected.item() - logits_of(original, [ids]).item()) > 1e-3


@pytest.mark.skipif(not can_fuse(torch.bfloat16), reason="no fused kernels for bfloat16 here")
def test_in_bfloat16_logits_are_near_and_do_not_tie(reranker) -> None:
    model, _ = reranker
    rows = sequences([60]).pop().repeat(80, 1)
    rows[:, 30] = torch.arange(100, 180)  # texts that differ in one token
    lengths = [60] * len(rows)
    exact = CpuEngine(model)(rows.flatten(), lengths)
    half = EncoderModel(model.architecture).take(model.state_dict()).bfloat16()
    rough = CpuEngine(half)(rows.flatten(), lengths)
    assert len(rough.unique()) == len(exact.unique()) == len(rows)
    assert (rough - exact).abs().mean() < 0.1 * max(1.0, float(exact.abs().mean()))


def changed(tmp_path: Path, kind: str, **fields: object) -> Path:
    write_reranker(tmp_path, kind)
    path = tmp_path / "config.json"
    config = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({k: v for k, v in config.items() if v != "absent"}))
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "fields", "told"),
    [
        ("bert", {"architectures": ["BertModel"]}, "BertModel, which has no head that scores"),
        ("bert", {"architectures": "absent"}, "names nothing, which has no head"),
        ("bert", {"id2label": {"0": "a", "1": "b"}}, "has 2 outputs; a reranker has one"),
        ("bert", {"hidden_act": "silu"}, "hidden_act must be one of 'gelu', 'relu', not 'silu'"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type must be"),
        ("bert", {"hidden_size": 50}, "hidden_size 50 is not a multiple of num_attention_heads 4"),
        ("bert", {"num_hidden_layers": 0}, "num_hidden_layers must be a positive integer, not 0"),
        ("bert", {"num_hidden_layers": 4}, r"lacks bert.encoder.layer.3.attention.output.Layer"),
        ("bert", {"intermediate_size": 81}, "intermediate.dense.* has shape .80,"),
        ("bert", {"model_type": "deberta-v2"}, "model_type is 'deberta-v2'. sentence-transf"),
        ("xlm-roberta", {"pad_token_id": -1}, "pad_token_id must be an integer from 0, not -1"),
        ("modernbert", {"layer_types": ["full_attention"]}, "layer_types must name one of"),
        (
            "modernbert",
            {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}},
            "rope_type must be 'default', not 'yarn'",
        ),
        (
            "modernbert",
            {"rope_parameters": {"full_attention": {"type": "linear", "factor": 4.0}}},
            "rope_type must be 'default', not 'linear'",
        ),
        (
            "modernbert",
            {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}},
            "rope_parameters must have entries for full_attention and sliding_attention",
        ),
        ("modernbert", {"rope_parameters": [4.0]}, "rope_parameters must have entries for"),
        (
            "modernbert",
            {"rope_parameters": {"sliding_attention": 4.0}},
            "rope_parameters must have entries for",
        ),
        (
            "modernbert",
            {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
            "rope_scaling is not computed",
        ),
        (
            "modernbert",
            {"rope_scaling": {"rope_type": "default", "rope_theta": 50.0}},
            "rope_scaling is not computed",
        ),
        ("modernbert", {"sliding_window": 4}, "sliding_window must be one of 16, not 4"),
        ("modernbert", {"hidden_size": 45, "num_attention_heads": 9}, "head size must be even"),
        ("modernbert", {"is_causal": True}, "is_causal must be one of False, not True"),
        ("bert", {"is_causal": True}, "is_causal must be one of False, not True"),
        ("roberta", {"is_causal": True}, "is_causal must be one of False, not True"),
        ("bert", {"layer_norm_eps": float("inf")}, "layer_norm_eps must be a positive number"),
        ("bert", {"layer_norm_eps": 10**400}, "layer_norm_eps must be a positive number"),
        ("modernbert", {"classifier_pooling": "max"}, "classifier_pooling must be one of"),
        ("modernbert", {"architectures": ["ModernBertModel"]}, "is an encoder without a head"),
    ],
)
def test_what_cannot_be_computed_exactly_is_refused_by_field(
    tmp_path: Path, kind: str, fields: dict[str, object], told: str
) -> None:
    with pytest.raises(ModelLoadError, match=told):
        EncoderModel.from_pretrained(changed(tmp_path, kind, **fields))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("bert", {"hidden_act": "silu"}),
        ("bert", {"position_embedding_type": "relative_key"}),
        ("bert", {"is_decoder": True}),
        ("bert", {"model_type": "deberta-v2"}),
        ("roberta", {"hidden_act": "gelu_new"}),
        ("modernbert", {"hidden_activation": "silu"}),
        ("modernbert", {"classifier_activation": "silu"}),
        ("modernbert", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}),
    ],
)
def test_a_refused_checkpoint_that_another_engine_may_run_is_told_by_its_name(
    tmp_path: Path, kind: str, fields: dict[str, object]
) -> None:
    with pytest.raises(ModelLoadError) as caught:
        EncoderModel.from_pretrained(changed(tmp_path, kind, **fields))
    assert str(caught.value).endswith(f"sentence-transformers may run it: cross-encoder:{tmp_path}")


@pytest.mark.parametrize(
    "fields",
    [
        {"architectures": ["BertModel"]},
        {"id2label": {"0": "a", "1": "b"}},
        {"num_hidden_layers": 0},
        {"quantization": "int3"},
    ],
)
def test_a_refused_checkpoint_that_no_engine_runs_is_told_no_other_name(tmp_path, fields) -> None:
    with pytest.raises(ModelLoadError) as caught:
        EncoderModel.from_pretrained(changed(tmp_path, "bert", **fields))
    assert "cross-encoder:" not in str(caught.value)


@pytest.mark.parametrize("pooling", ["weightedmean", "lasttoken"])
def test_a_module_list_that_is_refused_is_told_by_its_folder(tmp_path, pooling: str) -> None:
    """Not by that of the module whose config.json has the field."""
    folder = tmp_path / "model"
    write_module_list(folder)
    path = folder / "1_Pooling" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pooling_mode": pooling}))
    with pytest.raises(ModelLoadError, match=f"may run it: cross-encoder:{folder}$"):
        EncoderModel.from_pretrained(folder)


def test_fields_of_before_transformers_5_are_read(tmp_path: Path) -> None:
    original = write_reranker(tmp_path, "modernbert")
    old = {"layer_types": "absent", "rope_parameters": "absent", "global_attn_every_n_layers": 3}
    thetas = {"global_rope_theta": 160000.0, "local_rope_theta": 10000.0}
    rows = sequences([90])
    model = EncoderModel.from_pretrained(changed(tmp_path, "modernbert", **old, **thetas))
    found = model.forward_packed(rows[0], [90])
    torch.testing.assert_close(found.double(), logits_of(original, rows), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_scaling": None},
        {"rope_scaling": {}},
        {"rope_scaling": {"rope_type": "default"}},
        {"rope_scaling": {"type": "default"}},
        {"rope_parameters": {}},
        {"rope_parameters": None, "global_rope_theta": 7.0},
        {"rope_parameters": {"full_attention": {}}, "global_rope_theta": 7.0},
        {"rope_parameters": {"full_attention": {}}, "local_rope_theta": 9.0},
        {"sliding_window": 16},
    ],
    ids=str,
)
def test_rotary_positions_are_read_as_transformers_reads_them(tmp_path: Path, fields) -> None:
    folder = changed(tmp_path, "modernbert", **fields)
    original = transformers.AutoModelForSequenceClassification.from_pretrained(folder).double()
    rows = sequences([90])
    found = EncoderModel.from_pretrained(folder).forward_packed(rows[0], [90])
    torch.testing.assert_close(found.double(), logits_of(original, rows), atol=TOLERANCE, rtol=0)


def test_norms_with_their_old_names_are_read(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    write_reranker(tmp_path, "bert")
    expected = EncoderModel.from_pretrained(tmp_path).state_dict()
    path = tmp_path / "model.safetensors"
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in load_file(path).items()
    }
    save_file(renamed, path)
    found = EncoderModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("entry", "changes", "told"),
    [
        ("2_Dense", {"activation_function": "torch.nn.modules.activation.SiLU"}, "activation_fun"),
        ("2_Dense", {"use_residual": True}, "use_residual must be one of False"),
        ("4_Dense", {"out_features": 2}, "out_features must be one of 1, not 2"),
        ("1_Pooling", {"pooling_mode": "max"}, "pooling_mode must be one of 'cls', 'mean'"),
    ],
)
def test_a_module_list_that_is_not_known_is_refused(tmp_path, entry, changes, told) -> None:
    folder = tmp_path / "model"
    write_module_list(folder)
    path = folder / entry / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ModelLoadError, match=told):
        EncoderModel.from_pretrained(folder)


def test_an_embedding_model_s_module_list_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_module_list(folder)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(modules[:2]))
    for entry in modules[2:]:
        shutil.rmtree(folder / entry["path"])
    with pytest.raises(ModelLoadError, match=r"modules\.json names Transformer, Pooling beside it"):
        EncoderModel.from_pretrained(folder)


PEAK = """
import resource, torch
from jina_rerank.encoders import Architecture, EncoderModel
from jina_rerank.encoders.architecture import Head, Rotary
from jina_rerank.encoders.cpu import CpuEngine
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
windows = tuple(64 if n % 3 else None for n in range(7))
ettin = Architecture(
    vocab_size=400, hidden_size=256, num_hidden_layers=7, num_attention_heads=4,
    intermediate_size=384, max_length=8192, layer_norm_eps=1e-5, windows=windows,
    positions=Rotary(tuple(10000.0 if w else 160000.0 for w in windows)), gated=True,
    norm_first=True, attention_bias=False, units_bias=False, out_bias=False, norm_bias=False,
    head=Head(activation="gelu", norm=True),
)
with torch.inference_mode():
    engine = CpuEngine(EncoderModel(ettin).eval())
    engine(torch.ones(64, dtype=torch.long), [64])
    before = peak()
    engine(torch.ones(8192, dtype=torch.long), [8192])
    print(peak() - before)
"""


@pytest.mark.slow
def test_8192_tokens_of_modernbert_fit_in_half_a_gigabyte() -> None:
    """Ettin's shape in float32; the scores of one layer alone would be 1 GB if they were kept."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 512

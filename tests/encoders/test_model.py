"""The forward pass against values computed elsewhere, and what must not change a logit."""

import subprocess
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import random_model, write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from jina_rerank import InputError
from jina_rerank.encoders import JinaBert
from jina_rerank.encoders.alibi import alibi_slopes

MODEL = random_model()
TWELVE_HEADS = random_model(hidden_size=48, num_attention_heads=12)


@pytest.mark.parametrize("case", range(5))
def test_golden_logits(golden: Path, case: int) -> None:
    values = np.load(golden / "golden.npz")
    model = JinaBert.from_pretrained(golden)
    ids, mask, types = (
        torch.from_numpy(values[f"case{case}_{name}"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    logits = model(ids, mask, types)
    assert logits.shape == (len(ids),)
    np.testing.assert_allclose(logits, values[f"case{case}_logits_f64"], atol=1e-5, rtol=0)


def reference_logit(model: JinaBert, ids: torch.Tensor, types: torch.Tensor) -> float:
    """One pair in float64, the formulas written out: nothing shared with the forward pass."""
    w = {name: tensor.double() for name, tensor in model.state_dict().items()}
    config = model.config
    heads, eps, length = config.num_attention_heads, config.layer_norm_eps, len(ids)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + eps).sqrt()
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def gelu(x: torch.Tensor) -> torch.Tensor:
        return x * 0.5 * (1 + torch.erf(x / 2**0.5))

    slopes = torch.tensor(alibi_slopes(heads, config.alibi_slopes), dtype=torch.float64)
    positions = torch.arange(length)
    distance = (positions[None] - positions[:, None]).abs()
    bias = -slopes[:, None, None] * distance
    limited = bias
    if config.attention_window is not None and length > 2 * config.attention_window:
        # The head with the smallest slope sees everything.
        near = (distance <= config.attention_window) | (slopes == slopes.min())[:, None, None]
        limited = bias.where(near, -torch.inf)
    rows = []
    for kind, run in groupby(types.tolist()):
        places = range(len(list(run)))
        rows += [kind * config.text_positions + min(n, config.text_positions - 1) for n in places]
    x = w["bert.embeddings.word_embeddings.weight"][ids]
    x = norm(
        x + w["bert.embeddings.token_type_embeddings.weight"][rows], "bert.embeddings.LayerNorm"
    )
    for n in range(config.num_hidden_layers):
        layer = f"bert.encoder.layer.{n}"
        q, k, v = (
            linear(x, f"{layer}.attention.self.{part}").view(length, heads, -1).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        # So do all heads of the last layer.
        added = limited if n < config.num_hidden_layers - 1 else bias
        weights = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5 + added).softmax(-1)
        context = (weights @ v).transpose(0, 1).reshape(length, -1)
        dense = linear(context, f"{layer}.attention.output.dense")
        x = norm(x + dense, f"{layer}.attention.output.LayerNorm")
        if config.feed_forward_type == "original":
            units = gelu(linear(x, f"{layer}.intermediate.dense"))
            x = norm(x + linear(units, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
            continue
        gate, up = (x @ w[f"{layer}.mlp.gated_layers.weight"].T).chunk(2, -1)
        gate = gelu(gate) if config.feed_forward_type == "geglu" else gate.clamp_min(0)
        x = norm(x + linear(gate * up, f"{layer}.mlp.wo"), f"{layer}.mlp.layernorm")
    pooled = linear(x[0], "bert.pooler.dense").tanh()
    return float(linear(pooled, "classifier"))


@pytest.mark.parametrize("feed_forward_type", ["geglu", "reglu", "original"])
@pytest.mark.parametrize("slopes", ["reranker", "paper", "faint"])
@pytest.mark.parametrize("heads", [4, 8, 12, 16])
def test_formulas_written_out(heads: int, slopes: str, feed_forward_type: str) -> None:
    model = random_model(
        hidden_size=96,
        num_attention_heads=heads,
        alibi_slopes=slopes,
        feed_forward_type=feed_forward_type,
        text_positions=heads,
    )
    ids = torch.randint(400, (70,), generator=torch.Generator().manual_seed(heads))
    types = (torch.arange(70) > 20).long()
    logit = model(ids[None], token_type_ids=types[None])
    assert logit.item() == pytest.approx(reference_logit(model, ids, types), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("window", [1, 20, 35, 36, 70])
def test_a_window_written_out(window: int) -> None:
    shape = {"hidden_size": 96, "num_attention_heads": 4, "num_hidden_layers": 3}
    model = random_model(**shape, attention_window=window)
    ids = torch.randint(400, (71,), generator=torch.Generator().manual_seed(window))
    types = (torch.arange(71) > 20).long()
    logit = model(ids[None], token_type_ids=types[None]).item()
    assert logit == pytest.approx(reference_logit(model, ids, types), rel=1e-4, abs=1e-4)
    everything = random_model(**shape)(ids[None], token_type_ids=types[None]).item()
    assert (abs(logit - everything) > 1e-2) == (window <= 35)


PLACED = random_model(hidden_size=48, text_positions=9)


@settings(deadline=None)  # as below
@given(
    texts=st.lists(st.tuples(st.integers(1, 14), st.integers(0, 14)), min_size=1, max_size=8),
    data=st.data(),
)
def test_places_are_counted_in_each_text_of_its_own_pair(
    texts: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Also where a pair without a second text, and so without a change of type, follows another."""
    generator = torch.Generator().manual_seed(0)
    pairs = [
        (torch.randint(400, (one + two,), generator=generator), torch.tensor([0] * one + [1] * two))
        for one, two in texts
    ]
    alone = [reference_logit(PLACED, ids, types) for ids, types in pairs]
    order = data.draw(st.permutations(range(len(pairs))))
    ids, types = (torch.cat([pairs[i][part] for i in order]) for part in (0, 1))
    together = PLACED.forward_packed(ids, [len(pairs[i][0]) for i in order], types)
    np.testing.assert_allclose(together, [alone[i] for i in order], atol=1e-4, rtol=0)


def test_places_are_counted_without_types_too() -> None:
    ids = torch.arange(40).view(2, 20)
    torch.testing.assert_close(PLACED(ids), PLACED(ids, token_type_ids=torch.zeros_like(ids)))


sequences = st.lists(st.lists(st.integers(0, 399), min_size=1, max_size=60), min_size=1, max_size=8)


def padded(rows: list[list[int]], to: int, fill: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([row + [fill] * (to - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (to - len(row)) for row in rows])
    return ids, mask


@settings(deadline=None)  # a loaded machine is no fault
@given(rows=sequences, extra=st.integers(0, 40), fill=st.integers(0, 399), data=st.data())
def test_a_logit_depends_on_its_pair_alone(
    rows: list[list[int]], extra: int, fill: int, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    alone = torch.cat([TWELVE_HEADS(torch.tensor([row])) for row in rows])
    longest = max(map(len, rows))
    together = TWELVE_HEADS(*padded([rows[i] for i in order], longest + extra, fill))
    # float32, summed in another order: seen 1.1e-5.
    torch.testing.assert_close(together, alone[order], atol=3e-5, rtol=0)


def test_token_types_default_to_zero() -> None:
    ids = torch.randint(400, (2, 9))
    torch.testing.assert_close(MODEL(ids), MODEL(ids, token_type_ids=torch.zeros_like(ids)))
    assert not torch.allclose(MODEL(ids), MODEL(ids, token_type_ids=torch.ones_like(ids)))


@pytest.mark.parametrize("mask", [[[0, 1, 1]], [[1, 0, 1]], [[0, 0, 0]]])
def test_padding_must_stand_at_the_end(mask: list[list[int]]) -> None:
    with pytest.raises(InputError, match="tokens first, then padding"):
        MODEL(torch.tensor([[5, 6, 7]]), torch.tensor(mask))


def test_bfloat16_stays_near_float32(golden: Path) -> None:
    values = np.load(golden / "golden.npz")
    model = JinaBert.from_pretrained(golden, dtype=torch.bfloat16)
    logits = model(
        torch.from_numpy(values["case2_input_ids"]),
        torch.from_numpy(values["case2_attention_mask"]),
    )
    assert logits.dtype == torch.float32
    np.testing.assert_allclose(logits, values["case2_logits_f64"], atol=0.02)


PEAK = """
import resource, torch
from jina_rerank.encoders import JinaBert, JinaBertConfig
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
with torch.inference_mode():
    model = JinaBert(JinaBertConfig()).eval()
    model(torch.ones(1, 64, dtype=torch.long))
    before = peak()
    model(torch.ones(1, 8192, dtype=torch.long))
    print(peak() - before)
"""


@pytest.mark.slow
def test_8192_tokens_fit_in_a_gigabyte_above_the_weights() -> None:
    """Turbo's shape in fp32; the bias alone would be 3.2 GB if it were built."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1024


def test_casting_a_loaded_model_is_as_loading_it_so(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, hidden_size=48, num_attention_heads=12)
    ids = torch.randint(400, (1, 300), generator=torch.Generator().manual_seed(1))
    loaded = JinaBert.from_pretrained(folder, dtype=torch.bfloat16)
    cast = JinaBert.from_pretrained(folder).bfloat16()
    assert torch.equal(cast(ids), loaded(ids))

"""The GPU's engine on a CPU: the same code, its attention uncompiled."""

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints import random_model
from families import write_reranker
from torch import Tensor

from jina_rerank.encoders import EncoderModel, JinaBert, alibi_slopes
from jina_rerank.encoders.architecture import Alibi
from jina_rerank.encoders.flex import FlexEncoder
from jina_rerank.encoders.gpu import BATCH_TOKENS, GpuEngine
from jina_rerank.encoders.model import Encode

LENGTHS = [5, 300, 64, 64, 1]

# That is what is done here, and on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Ours; torch's compiler logs much."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("jina_rerank") and record.levelno >= logging.WARNING
    ]


def tokens() -> tuple[Tensor, Tensor]:
    """Random ids and types."""
    generator = torch.Generator().manual_seed(0)
    ids, types = (torch.randint(0, most, (sum(LENGTHS),), generator=generator) for most in (400, 2))
    return ids, types


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_the_logits_are_those_of_the_model_s_own_layers(
    dtype: torch.dtype, tolerance: float, caplog: pytest.LogCaptureFixture
) -> None:
    model = random_model().to(dtype)
    engine = GpuEngine(model, FlexEncoder(model, backend=None))
    assert engine.batch_tokens == BATCH_TOKENS
    assert warnings(caplog) == []
    ids, types = tokens()
    found, own = engine(ids, LENGTHS, types), model.forward_packed(ids, LENGTHS, types)
    torch.testing.assert_close(found, own, rtol=tolerance, atol=tolerance)
    assert not torch.equal(found, own)  # or its encoder was not used


def failing_compiler(model: JinaBert) -> Encode:
    """Torch compiles with a backend that cannot, as without Triton."""

    def backend(_graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> None:
        raise OSError("there is\nno Triton here")

    return FlexEncoder(model, backend=backend)


def wrong_bias(model: JinaBert) -> Encode:
    slopes = [2 * slope for slope in alibi_slopes(model.config.num_attention_heads)]
    wrong = EncoderModel(replace(model.architecture, positions=Alibi(tuple(slopes))))
    return FlexEncoder(wrong.take(model.state_dict()), backend=None)


def without_window(model: JinaBert) -> Encode:
    limitless = replace(model.architecture, windows=(None,) * len(model.architecture.windows))
    return FlexEncoder(EncoderModel(limitless).take(model.state_dict()), backend=None)


def not_a_number(model: JinaBert) -> Encode:
    flex = FlexEncoder(model, backend=None)
    return lambda hidden, sequences: flex(hidden, sequences) * torch.nan


@pytest.mark.parametrize(
    ("encoder", "told"),
    [
        (failing_compiler, "there is no Triton here$"),
        (wrong_bias, r"off by 0\.\d+ from"),
        (not_a_number, "off by nan from"),
    ],
)
def test_an_encoder_that_fails_is_told_of_once_and_left_out(
    caplog: pytest.LogCaptureFixture, encoder: Callable[[JinaBert], Encode], told: str
) -> None:
    model = random_model().to(torch.bfloat16)
    engine = GpuEngine(model, encoder(model))
    assert engine.batch_tokens < BATCH_TOKENS
    ids, types = tokens()
    for _ in range(2):
        torch.testing.assert_close(
            engine(ids, LENGTHS, types), model.forward_packed(ids, LENGTHS, types), rtol=0, atol=0
        )
    (warning,) = warnings(caplog)
    assert re.search(told, warning)


def test_an_encoder_without_the_embedded_models_window_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With ALiBi, a window limits only sequences of more than two windows."""
    model = random_model(num_hidden_layers=3, attention_window=256, alibi_slopes="faint")
    assert GpuEngine(model, FlexEncoder(model, backend=None)).batch_tokens == BATCH_TOKENS
    assert warnings(caplog) == []
    assert GpuEngine(model, without_window(model)).batch_tokens < BATCH_TOKENS
    (warning,) = warnings(caplog)
    assert re.search(r"off by 0\.\d+ from", warning)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "modernbert"])
@pytest.mark.parametrize("positions", [16, 150])
def test_a_model_of_few_positions_is_tried_out_within_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, positions: int
) -> None:
    write_reranker(tmp_path, kind, max_position_embeddings=positions)
    model = EncoderModel.from_pretrained(tmp_path)
    engine = GpuEngine(model, FlexEncoder(model, backend=None))
    assert engine.batch_tokens == BATCH_TOKENS
    assert warnings(caplog) == []

"""Logits that a transformers of before computed in float64; none is imported here.

A new transformers cannot move these, as it might move both sides of `test_families.py`.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from jina_rerank.encoders import EncoderModel
from jina_rerank.encoders.cpu import CpuEngine

FOLDER = Path(__file__).parents[1] / "data" / "golden" / "families"
FAMILIES = sorted(path.parent.name for path in FOLDER.glob("*/golden.npz"))


def test_there_are_golden_files() -> None:
    assert {"bert", "xlm_roberta", "modernbert", "ettin"} <= set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_golden_file(family: str) -> None:
    values = np.load(FOLDER / family / "golden.npz")
    model = EncoderModel.from_pretrained(FOLDER / family)
    ids, types = (torch.from_numpy(values[name]) for name in ("input_ids", "token_type_ids"))
    lengths, expected = values["lengths"].tolist(), torch.from_numpy(values["logits_f64"])
    assert expected.std() > 0.1  # or the weights say nothing
    alone = [
        model.forward_packed(own, [len(own)], own_types)
        for own, own_types in zip(ids.split(lengths), types.split(lengths), strict=True)
    ]
    together = CpuEngine(model)(ids, lengths, types)
    torch.testing.assert_close(torch.cat(alone).double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(together.double(), expected, atol=1e-5, rtol=0)

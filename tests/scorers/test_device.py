from __future__ import annotations

import pytest
import torch

from jina_rerank.scorers._device import choose_dtype


@pytest.mark.parametrize(
    ("amx", "avx512", "expected"),
    [
        (True, True, torch.bfloat16),
        (False, True, torch.float32),
        (False, False, torch.float32),
    ],
)
def test_bfloat16_is_for_processors_with_amx(monkeypatch, amx, avx512, expected):
    """Not for AVX-512 BF16 alone, with which it is slower than float32."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert choose_dtype("auto", "cpu") is expected
    assert choose_dtype("bfloat16", "cpu") is torch.bfloat16
    assert choose_dtype("float32", "cpu") is torch.float32

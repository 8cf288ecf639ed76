from __future__ import annotations

import pytest
import torch

from jina_rerank.scorers.device import choose_dtype


@pytest.mark.parametrize(
    ("amx", "features", "expected"),
    [
        (True, {"cpu_name": "Intel Xeon", "avx512_bf16": True}, torch.bfloat16),
        (False, {"cpu_name": "Intel Xeon", "avx512_bf16": True}, torch.float32),
        (False, {"cpu_name": "AMD EPYC", "avx512_bf16": True}, torch.bfloat16),
        (False, {"cpu_name": "AMD EPYC", "avx512_bf16": False}, torch.float32),
        (False, {"architecture": "aarch64"}, torch.float32),
    ],
)
def test_bfloat16_is_for_processors_that_are_faster_with_it(monkeypatch, amx, features, expected):
    """AVX-512 BF16 alone is slower than float32 on an Intel, and faster on an AMD."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert choose_dtype("auto", "cpu") is expected
    assert choose_dtype("bfloat16", "cpu") is torch.bfloat16
    assert choose_dtype("float32", "cpu") is torch.float32


def test_a_torch_that_does_not_tell_its_processor_computes_in_float32(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert choose_dtype("auto", "cpu") is torch.float32

"""Detection of the processor's fast arithmetic."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def has_fast_bfloat16() -> bool:
    """Tell whether products in bfloat16 are faster than in float32 on this CPU.

    They are with AMX, and on an AMD with AVX-512 BF16. Intel's AVX-512 BF16 alone is not enough:
    it was slower than float32. Both are measured in docs/performance.md.
    """
    # Older versions of torch do not report the processor's maker.
    features: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    made_by_amd = str(features.get("cpu_name", "")).startswith("AMD")
    # Torch has no public function for this; this private one has been stable since 2.4.
    amx = bool(torch.cpu._is_amx_tile_supported())
    return amx or (made_by_amd and bool(features.get("avx512_bf16", False)))

"""Store a checkpoint as compactly as the embedded model is stored.

    python scripts/pack_model.py CHECKPOINT [CHECKPOINT ...] models/mini/src/jina_rerank_mini

writes config.json, model.safetensors and tokenizer.json. Every matrix becomes 8-bit integers
with a scale for each row; docs/models.md says what that costs. benchmarks/storage.py measures it.

Of several checkpoints the mean is stored: ends of runs that went on from one state rank better
together than each alone (Wortsman et al., Model soups, arXiv:2203.05482).
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from jina_rerank.encoders import JinaBert, quantize_state
from jina_rerank.encoders.checkpoint import write_weights


def mean_state(sources: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of checkpoints of one shape, in float32."""
    states = [JinaBert.from_pretrained(s, dtype=torch.float32).state_dict() for s in sources]
    return {name: torch.stack([s[name] for s in states]).mean(0) for name in states[0]}


def main(sources: Sequence[Path], target: Path) -> None:
    """Read the checkpoints in `sources`, check them, and write them as one to `target`."""
    target.mkdir(parents=True, exist_ok=True)
    write_weights(quantize_state(mean_state(sources)), target / "model.safetensors")
    source = sources[0]
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config["quantization"] = "int8_rows"
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    if (source / "tokenizer.json").resolve() != (target / "tokenizer.json").resolve():
        shutil.copyfile(source / "tokenizer.json", target / "tokenizer.json")
    for file in [*sorted(target.glob("*.json")), target / "model.safetensors"]:
        print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    *given, written = map(Path, sys.argv[1:])
    main(given, written)

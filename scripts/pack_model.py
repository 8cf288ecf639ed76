"""Store a checkpoint as compactly as the embedded model is stored.

    python scripts/pack_model.py CHECKPOINT models/mini/src/jina_rerank_mini

writes config.json, model.safetensors and tokenizer.json. Every matrix becomes 8-bit integers
with a scale for each row; docs/models.md says what that costs. benchmarks/storage.py measures it.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch

from jina_rerank.jinabert import JinaBert, quantize_state
from jina_rerank.jinabert.checkpoint import write_weights


def main(source: Path, target: Path) -> None:
    """Read the checkpoint in `source`, check it, and write it to `target`."""
    state = JinaBert.from_pretrained(source, dtype=torch.float32).state_dict()
    target.mkdir(parents=True, exist_ok=True)
    write_weights(quantize_state(state), target / "model.safetensors")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config["quantization"] = "int8_rows"
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    if (source / "tokenizer.json").resolve() != (target / "tokenizer.json").resolve():
        shutil.copyfile(source / "tokenizer.json", target / "tokenizer.json")
    for file in [*sorted(target.glob("*.json")), target / "model.safetensors"]:
        print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

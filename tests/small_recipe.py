"""A recipe that is done in seconds."""

from __future__ import annotations

import json
from pathlib import Path

from checkpoints import write_checkpoint


def small_recipe(folder: Path, **parts: str) -> Path:
    """A recipe whose student is small and random, and whose teacher is BM25."""
    write_checkpoint(folder / "student", seed=1)
    (folder / "pairs.jsonl").write_text(
        "".join(
            json.dumps({"query": f"panda {i}", "passage": f"the giant panda {i} is a bear"}) + "\n"
            for i in range(20)
        )
    )
    text = {
        "student": f'checkpoint = "{folder}/student"',
        "data": f'pairs = ["{folder}/pairs.jsonl"]',
        "[teacher]": 'name = "words"\nmodel = "bm25"',
        "training": 'steps = 4\ndtype = "float32"\nsave_every = 2',
        "ranking": "tokens_per_step = 300",
        **parts,
    }
    path = folder / "recipe.toml"
    path.write_text("\n".join(f"[{name}]\n{lines}" for name, lines in text.items()))
    return path

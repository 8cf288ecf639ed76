"""Writes the checkpoints and logits beside this file, with the transformers that is installed.

Run from the root of the repository: `python tests/data/golden/families/make.py`. The logits are of
transformers' and sentence-transformers' own classes in float64, each sequence alone, not padded.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))

from families import write_module_list, write_reranker  # noqa: E402 - of the tests' folder

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "num_hidden_layers": 4,
}
LENGTHS = [1, 2, 7, 19, 40, 60]
KEPT = {"config.json", "model.safetensors", "modules.json"}


def bert(folder: Path) -> transformers.PreTrainedModel:
    return write_reranker(folder, "bert", **SHAPE, max_position_embeddings=60)


def xlm_roberta(folder: Path) -> transformers.PreTrainedModel:
    return write_reranker(folder, "xlm-roberta", **SHAPE, max_position_embeddings=62)


def modernbert(folder: Path) -> transformers.PreTrainedModel:
    return write_reranker(folder, "modernbert", **SHAPE, local_attention=16)


def ettin(folder: Path) -> object:
    return write_module_list(folder, **SHAPE, local_attention=16)


MAKERS: dict[str, Callable[[Path], object]] = {
    "bert": bert,
    "xlm_roberta": xlm_roberta,
    "modernbert": modernbert,
    "ettin": ettin,
}


def main() -> None:
    generator = torch.Generator().manual_seed(24)
    for name, make in MAKERS.items():
        rows = [torch.randint(3, 64, (length,), generator=generator) for length in LENGTHS]
        types = [torch.arange(len(row)) * 2 // len(row) for row in rows]
        if name != "bert":
            types = [torch.zeros_like(row) for row in rows]
        with tempfile.TemporaryDirectory() as temporary:
            made = Path(temporary) / "model"
            model = make(made)
            target = HERE / name
            shutil.rmtree(target, ignore_errors=True)
            for path in made.rglob("*"):
                if path.name in KEPT:
                    copy = target / path.relative_to(made)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, copy)
        logits = [_logit(model, row, own) for row, own in zip(rows, types, strict=True)]
        np.savez_compressed(
            target / "golden.npz",
            input_ids=torch.cat(rows).to(torch.int32).numpy(),
            token_type_ids=torch.cat(types).to(torch.int32).numpy(),
            lengths=np.array(LENGTHS),
            logits_f64=np.array(logits),
        )
    sys.stdout.write(f"transformers {transformers.__version__}, torch {torch.__version__}\n")


def _logit(model: object, ids: torch.Tensor, types: torch.Tensor) -> float:
    features = {"input_ids": ids[None], "attention_mask": torch.ones_like(ids)[None]}
    with torch.inference_mode():
        if isinstance(model, transformers.BertForSequenceClassification):
            features["token_type_ids"] = types[None]
        if isinstance(model, transformers.PreTrainedModel):
            return float(model(**features).logits)
        return float(model.forward(features)["scores"])


if __name__ == "__main__":
    main()

"""The script that calibrates a checkpoint's scores."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from jina_rerank import LocalScorer, ScoreRequest
from jina_rerank.embedded import embedded_model_folder
from jina_rerank.encoders import JinaBert
from jina_rerank.encoders.checkpoint import write_weights
from jina_rerank.evaluation.collection import read_beir

SCRIPT = Path(__file__).parents[1] / "models/mini/training/calibrate.py"
COFFEE = Path(__file__).parents[1] / "examples/data/coffee"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("calibrate", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


def drawn(factor: float, offset: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels whose probability is that of the scaled logit."""
    chance = np.random.default_rng(seed)
    logits = chance.normal(0, 3, 20_000)
    probabilities = 1 / (1 + np.exp(-(factor * logits + offset)))
    return logits, (chance.random(len(logits)) < probabilities).astype(float)


def test_factor_and_offset_are_those_that_the_labels_were_drawn_with(script) -> None:
    assert script.platt(*drawn(0.4, -1.5, 0)) == pytest.approx((0.4, -1.5), abs=0.05)


def test_the_error_is_0_for_probabilities_and_their_distance_for_others(script) -> None:
    logits, labels = drawn(0.4, -1.5, 1)
    assert script.calibration_error(0.4 * logits - 1.5, labels) < 0.02
    sure = np.full(1000, 50.0)
    right = np.arange(1000) % 4 == 0
    assert script.calibration_error(sure, right.astype(float)) == pytest.approx(0.75)


def test_the_checkpoint_ranks_as_before_and_is_calibrated(
    script, tmp_path, monkeypatch, capsys
) -> None:
    checkpoint = tmp_path / "model"
    shutil.copytree(embedded_model_folder(), checkpoint)
    model = JinaBert.from_pretrained(checkpoint)
    write_weights(model.float().state_dict(), checkpoint / "model.safetensors")
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    del config["quantization"]
    (checkpoint / "config.json").write_text(json.dumps(config), encoding="utf-8")
    collection = read_beir(COFFEE)
    query, text = next(iter(collection.queries.items()))
    request = ScoreRequest(text, [collection.documents[one] for one in collection.qrels[query]])
    (before,) = LocalScorer(checkpoint, dtype="float32").score([request])
    small = tmp_path / "coffee"
    shutil.copytree(COFFEE, small)
    (path,) = (small / "qrels").glob("*.tsv")
    head, *judged = path.read_text(encoding="utf-8").splitlines()
    few = {line.split("\t")[0]: line for line in judged[:40]}
    path.write_text("\n".join([head, *list(few.values())[:12]]) + "\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["calibrate.py", str(checkpoint), str(small)])
    script.main()
    report = json.loads(capsys.readouterr().out)
    assert report["error"]["coffee"]["after"] < report["error"]["coffee"]["before"]
    (after,) = LocalScorer(checkpoint, dtype="float32").score([request])
    expected = report["factor"] * np.array(before.logits) + report["offset"]
    assert after.logits == pytest.approx(expected.tolist(), abs=1e-4)

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
from numpy.typing import NDArray

from jina_rerank import LocalScorer, ScoreRequest
from jina_rerank.embedded import embedded_model_folder
from jina_rerank.encoders import JinaBert
from jina_rerank.encoders.checkpoint import write_weights
from jina_rerank.evaluation.collection import read_beir

SCRIPT = Path(__file__).parents[1] / "models/mini/training/calibrate.py"
Floats = NDArray[np.float64]
COFFEE = Path(__file__).parents[1] / "examples/data/coffee"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("calibrate", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


def drawn(factor: float, offset: float, answers: float, seed: int) -> tuple[Floats, Floats]:
    """Logits of answers and others, of which a scaled logit gives the log odds at even chances.

    Two normal distributions of deviation 2 whose means are d apart have log odds of slope d / 4.
    """
    chance = np.random.default_rng(seed)
    labels = (chance.random(40_000) < answers).astype(float)
    distance, middle = 4 * factor, -offset / factor
    logits = chance.normal(middle + distance * (labels - 0.5), 2)
    return logits, labels


@pytest.mark.parametrize("answers", [0.5, 0.1])
def test_factor_and_offset_do_not_depend_on_how_many_answers_there_are(
    script: ModuleType, answers: float
) -> None:
    assert script.platt(*drawn(0.4, -1.5, answers, 0)) == pytest.approx((0.4, -1.5), abs=0.1)


def test_the_error_is_0_for_probabilities_and_their_distance_for_others(
    script: ModuleType,
) -> None:
    logits, labels = drawn(0.4, -1.5, 0.1, 1)
    assert script.calibration_error(0.4 * logits - 1.5, labels) < 0.02
    sure = np.full(1000, 50.0)
    right = (np.arange(1000) % 4 == 0).astype(float)
    assert script.calibration_error(sure, right) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("checkpoint", "collection", "message"),
    [
        (str(embedded_model_folder()), str(COFFEE), "is packed; calibrate the checkpoint"),
        ("absent", str(COFFEE), "absent: holds no config.json"),
        (str(embedded_model_folder()), "absent", "absent: no such folder"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_scored(
    script, monkeypatch, capsys, checkpoint: str, collection: str, message: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["calibrate.py", checkpoint, collection])
    with pytest.raises(SystemExit):
        script.main()
    assert message in capsys.readouterr().err


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
    # Under another name: scorers of one folder share the model that was read first.
    calibrated = checkpoint.rename(tmp_path / "calibrated")
    (after,) = LocalScorer(calibrated, dtype="float32").score([request])
    expected = report["factor"] * np.array(before.logits) + report["offset"]
    assert after.logits == pytest.approx(expected.tolist(), abs=1e-4)

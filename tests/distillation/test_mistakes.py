"""Mistakes of people with `jina-rerank distill`, and failures of machines."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import SMALL, write_checkpoint
from full_disk import full_beyond
from small_recipe import small_recipe
from typer.testing import CliRunner

from jina_rerank import ConfigurationError
from jina_rerank._output import held
from jina_rerank.cli.app import app


def run(recipe: Path, *args: object) -> tuple[int, str]:
    out = recipe.parent / "out"
    result = CliRunner().invoke(app, ["distill", str(recipe), "-o", str(out), *map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stderr


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"student": 'checkpoint = "nowhere"'}, "student.checkpoint: nowhere: not in the cache"),
        ({"student": 'convert = "nowhere"'}, "student.convert: nowhere: no such folder"),
        ({"student": 'convert = "{folder}/student"'}, "student.convert: {folder}/student/config.j"),
        (
            {"student": 'shape = {{ vocab_size = 500 }}\ntokenizer = "{folder}/pairs.jsonl"'},
            "student.tokenizer: {folder}/pairs.jsonl: cannot be read as a tokenizer",
        ),
        (
            {
                "student": "shape = {{ vocab_size = 9 }}\n"
                'tokenizer = "{folder}/student/tokenizer.json"'
            },
            "student.shape.vocab_size: 9 is too small for {folder}/student/tokenizer.json",
        ),
        (
            {"[teacher]": 'name = "x"\nmodel = "bi-encoder:nowhere"'},
            "teacher x.model: nowhere: cannot",
        ),
        (
            {"[teacher]": 'name = "x"\nmodel = "bi-encoder:{folder}"'},
            "teacher x.model: {folder}: cannot",
        ),
        (
            {"[teacher]": 'name = "x"\nmodel = "cross-encoder:nowhere"'},
            "teacher x.model: nowhere",
        ),
        ({"[teacher]": 'name = "x"\nmodel = "nowhere"'}, "teacher x.model: nowhere: not in the"),
        (
            {"[teacher]": 'name = "x"\nmodel = "remote:m"'},
            "there is no key for https://api.jina.ai",
        ),
    ],
)
def test_a_model_that_is_not_there_is_told_before_anything_is_mined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: dict[str, str], said: str
) -> None:
    for variable in ("JINA_API_KEY", "JINAAI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    parts = {name: text.format(folder=tmp_path) for name, text in parts.items()}
    status, err = run(small_recipe(tmp_path, **parts))
    # The recipe is to be changed; that there is no key is no fault of it.
    assert status == (1 if "key" in said else 2)
    assert said.format(folder=tmp_path) in err
    assert not (tmp_path / "out" / "prepared").exists()


def pairs(*texts: tuple[str, str]) -> Callable[[Path], object]:
    lines = [json.dumps({"query": query, "passage": passage}) for query, passage in texts]
    return lambda folder: (folder / "pairs.jsonl").write_text("\n".join(lines))


def in_the_way(name: str) -> Callable[[Path], object]:
    def put(folder: Path) -> None:
        path = folder / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    return put


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (pairs(), "pairs: there are none to train on"),
        (pairs(("a", "b")), "pairs: no query has a passage of its source that does not answer it"),
        (pairs(("a", "b"), ("c", "b")), "pairs: no query has a passage"),
        (pairs(("a", "b"), ("c", " ")), "pairs.jsonl:2: passage: must be a text that is not"),
        (lambda folder: (folder / "out").write_text(""), "out: cannot be written"),
        (in_the_way("training"), "training: cannot be written"),
        (in_the_way("tensorboard"), "tensorboard: cannot be written"),
        (in_the_way("prepared"), "prepared: cannot be written"),
        (in_the_way("prepared/scores"), "scores/words: cannot be written"),
        (in_the_way("model"), "model"),
        (
            lambda folder: (folder / "out/prepared/scores/words/00000.parquet").mkdir(parents=True),
            "cannot be written: Is a directory",
        ),
    ],
)
def test_data_and_folders_that_cannot_be_used(
    tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    recipe = small_recipe(tmp_path)
    spoil(tmp_path)
    status, err = run(recipe)
    assert status == 2
    assert said in err


def test_weights_that_leave_nothing(tmp_path: Path) -> None:
    data = f'pairs = ["{tmp_path}/pairs.jsonl"]\nweights = {{ pairs = 0 }}'
    status, err = run(small_recipe(tmp_path, data=data))
    assert (status, "data.weights: all are 0" in err) == (2, True)


def test_collections_of_one_name(tmp_path: Path) -> None:
    coffee = Path(__file__).parents[2] / "examples/data/coffee"
    evaluation = f'collections = ["{coffee}", "{coffee}/../coffee"]'
    status, err = run(small_recipe(tmp_path, evaluation=evaluation))
    assert (status, "evaluation.collections: two are called 'coffee'" in err) == (2, True)


@pytest.mark.parametrize("until", [0, -2])
def test_a_step_that_is_none(tmp_path: Path, until: int) -> None:
    status, err = run(small_recipe(tmp_path), "--until", until)
    assert (status, f"until: must be at least 1, not {until}" in err) == (2, True)


@pytest.mark.parametrize(
    ("size", "file"), [(500, "passages.parquet"), (20_000, "state.pt.new"), (400_000, "state.pt")]
)
def test_a_full_disk_and_room_again(tmp_path: Path, size: int, file: str) -> None:
    recipe = small_recipe(tmp_path)
    with full_beyond(size):
        status, err = run(recipe)
    assert status == 2
    assert f"{file}" in err
    assert "cannot be written" in err
    assert run(recipe)[0] == 0


def test_a_student_of_another_shape_in_the_same_folder(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    assert run(recipe)[0] == 0
    write_checkpoint(tmp_path / "student", **{**SMALL, "hidden_size": 48})
    status, err = run(recipe)
    assert (status, "out holds another run, which differs in the recipe's student" in err) == (
        2,
        True,
    )


HOLD = """
import sys, time
from pathlib import Path
from jina_rerank._output import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_folder_takes_one_run_at_a_time_and_is_free_after_a_kill(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        status, err = run(recipe)
        assert (status, "out: another run is writing there" in err) == (2, True)
        other.send_signal(signal.SIGKILL)
    assert run(recipe)[0] == 0


def test_a_folder_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), held(tmp_path):
        raise KeyError
    with held(tmp_path), pytest.raises(ConfigurationError, match="another run"), held(tmp_path):
        pass

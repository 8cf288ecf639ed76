"""Loading by hub id, against a hub on the loopback, in processes of their own.

The hub's library reads its environment when it is imported, so each case needs a fresh one.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from hub import COMMITS, LoopbackHub, serve_hub

LOAD = """
import sys
from jina_rerank import LocalScorer, ModelLoadError, Reranker
try:
    scorer = LocalScorer(sys.argv[1], revision=sys.argv[2] or None)
    print(Reranker(scorer).rank("what is panda?", ["a bear", "a city"])[0].score)
except ModelLoadError as error:
    print("ModelLoadError", error)
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    write_checkpoint(tmp_path / "hub" / "org" / "small")
    with serve_hub(tmp_path / "hub") as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def load(hub: LoopbackHub, home: Path, name: str, revision: str = "", **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LOAD, name, revision],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), **env},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_downloaded_once_then_no_request_at_all(hub: LoopbackHub, home: Path) -> None:
    first = load(hub, home, "org/small")
    assert 0 < float(first) < 1
    assert list(home.rglob("model.safetensors")), "HF_HOME holds the cache"
    hub.requests.clear()
    assert load(hub, home, "org/small") == first
    assert load(hub, home, "org/small", HF_HUB_OFFLINE="1") == first
    assert hub.requests == []


def test_no_weights_are_fetched_of_a_model_that_cannot_run(hub: LoopbackHub, home: Path) -> None:
    """Some have gigabytes. The error names the hub id, since the cache lacks other files."""
    config = hub.root / "org" / "small" / "config.json"
    config.write_text('{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}')
    said = load(hub, home, "org/small")
    assert said.endswith("sentence-transformers may run it: cross-encoder:org/small")
    assert not [path for path in hub.requests if "safetensors" in path]


def test_a_revision_is_asked_for_by_name(hub: LoopbackHub, home: Path) -> None:
    float(load(hub, home, "org/small", "v1"))
    assert any("/resolve/v1/" in path for path in hub.requests)
    assert list(home.rglob(f"snapshots/{COMMITS['v1']}/config.json"))


def test_no_code_is_fetched(hub: LoopbackHub, home: Path) -> None:
    (hub.root / "org" / "small" / "modeling_bert.py").write_text("raise SystemExit('executed')")
    float(load(hub, home, "org/small"))
    assert not [path for path in hub.requests if path.endswith(".py")]


@pytest.mark.parametrize(
    ("name", "revision", "env", "message"),
    [
        ("org/small", "", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set; on a machine with"),
        ("org/small", "v9", {}, "the hub has no revision 'v9'"),
        ("org/absent", "", {}, "neither a folder nor a model on the hub"),
        ("./absent", "", {}, "neither a folder nor a hub id; a hub id is ORGANIZATION/NAME"),
        ("/no/such/folder", "", {}, "neither a folder nor a hub id; a hub id is ORGANIZATION/NAME"),
        ("org/small", "", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be reached; on a machine"),
    ],
)
def test_what_to_do_is_said(
    hub: LoopbackHub, home: Path, name: str, revision: str, env: dict[str, str], message: str
) -> None:
    said = load(hub, home, name, revision, **env)
    assert said.startswith(f"ModelLoadError {name}: ")
    assert message in said


def test_half_a_download_is_completed(hub: LoopbackHub, home: Path) -> None:
    expected = load(hub, home, "org/small")
    for weights in home.rglob("model.safetensors"):
        weights.unlink()
    assert load(hub, home, "org/small") == expected

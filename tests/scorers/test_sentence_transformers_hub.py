"""Models of sentence-transformers by hub id, against a hub on the loopback, in fresh processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers
from checkpoints import wordpiece_tokenizer
from hub import LoopbackHub, serve_hub
from transformers import BertConfig, BertForSequenceClassification

LOAD = """
import sys
from jina_rerank import BiEncoderScorer, CrossEncoderScorer, ModelLoadError, Reranker
kind, name = sys.argv[1:]
try:
    if kind == "bi-encoder":
        BiEncoderScorer(name).warm_up()
        print("loaded")
    else:
        reranker = Reranker(CrossEncoderScorer(name, dtype="float32"))
        print(reranker.rank("what is panda?", ["a bear", "a city"])[0].logit)
except ModelLoadError as error:
    print("sentence_transformers" in sys.modules, "ModelLoadError", error)
"""

KINDS = ["cross-encoder", "bi-encoder"]
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    folder = tmp_path / "hub" / "org" / "small"
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BertConfig(vocab_size=400, intermediate_size=37, num_labels=1, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer = transformers.BertTokenizerFast(tokenizer_object=wordpiece_tokenizer())
    tokenizer.save_pretrained(folder)
    with serve_hub(tmp_path / "hub") as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def load(hub: LoopbackHub, home: Path, kind: str, name: str = "org/small", **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LOAD, kind, name],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), **env},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("kind", KINDS)
def test_downloaded_once_then_no_request_at_all(hub: LoopbackHub, home: Path, kind: str) -> None:
    first = load(hub, home, kind)
    assert first == "loaded" or float(first)
    hub.requests.clear()
    assert load(hub, home, kind) == first
    assert not [path for path in hub.requests if "org/small" in path]
    assert load(hub, home, kind, HF_ENDPOINT=NOBODY) == first


def test_a_tokenizer_that_is_not_in_the_cache_is_fetched(hub: LoopbackHub, home: Path) -> None:
    """Without one transformers makes a tokenizer that knows no words, and does not say so."""
    expected = load(hub, home, "cross-encoder")
    for tokenizer in home.rglob("tokenizer.json"):
        tokenizer.unlink()
    said = load(hub, home, "cross-encoder", HF_ENDPOINT=NOBODY)
    assert "cannot be reached; on a machine with a network run: hf download org/small" in said
    assert load(hub, home, "cross-encoder") == expected


def test_a_model_that_transformers_has_cached_alone_is_completed(
    hub: LoopbackHub, home: Path
) -> None:
    """Its modules.json may name a pooling that a default would be silently taken for."""
    load(hub, home, "bi-encoder")
    for note in home.rglob(".no_exist/*/modules.json"):
        note.unlink()
    hub.requests.clear()
    assert load(hub, home, "bi-encoder") == "loaded"
    assert any(path.endswith("modules.json") for path in hub.requests)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "env", "message"),
    [
        ("org/small", {"HF_ENDPOINT": NOBODY}, "cannot be reached; on a machine with a network"),
        ("org/small", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set; on a machine with"),
        ("./absent", {}, "neither a folder nor a hub id"),
    ],
)
def test_what_cannot_be_had_is_told_before_sentence_transformers_is_imported(
    hub: LoopbackHub, home: Path, kind: str, name: str, env: dict[str, str], message: str
) -> None:
    said = load(hub, home, kind, name, **env)
    assert said.startswith(f"False ModelLoadError {name}: cannot be loaded: ")
    assert message in said
    assert hub.requests == []


def test_what_the_hub_does_not_have(hub: LoopbackHub, home: Path) -> None:
    assert "org/absent: cannot be loaded" in load(hub, home, "cross-encoder", "org/absent")

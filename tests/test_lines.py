"""Text from outside: a byte order mark changes nothing, and what cannot be read is named."""

import codecs
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint
from judged import write_beir
from small_recipe import small_recipe

from jina_rerank import (
    ConfigurationError,
    InputError,
    LocalScorer,
    ModelLoadError,
    Reranker,
    RerankError,
)
from jina_rerank.distillation.data.pairs import read_pairs
from jina_rerank.distillation.recipe import read_recipe
from jina_rerank.distillation.students.bert import read_tokenizer
from jina_rerank.encoders.files import find_checkpoint
from jina_rerank.evaluation import read_beir, read_first_stage
from jina_rerank.evaluation.reports.summary import read_summary
from jina_rerank.evaluation.state import StateFile
from jina_rerank.evaluation.systems import SystemScores
from jina_rerank.server import Settings
from jina_rerank.server.keys import Keys


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def mark(folder: Path, pattern: str) -> None:
    """Put a byte order mark in front of these files, as Windows editors do."""
    paths = sorted(folder.glob(pattern))
    assert paths
    for path in paths:
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())


def collection(folder: Path) -> Any:
    return read_beir(folder)


def first_stage(folder: Path) -> Any:
    return [read_first_stage(folder / name) for name in ("a.trec", "a.jsonl")]


def pairs(folder: Path) -> Any:
    return list(read_pairs(folder / "pairs.jsonl"))


def key_name(folder: Path) -> Any:
    return Keys(file=folder / "keys").name_of("Bearer 0123456789abcdef")


def settings(folder: Path) -> Any:
    return Settings.read({}, file=folder / "a.toml", environment={})


def recipe(folder: Path) -> Any:
    return read_recipe(folder / "recipe.toml")


def scores(folder: Path) -> Any:
    with Reranker(LocalScorer(str(folder), dtype="float32")) as reranker:
        return reranker.score("panda", ["the giant panda", "coffee"])


def vocabulary(folder: Path) -> Any:
    return read_tokenizer(folder).encode("panda bear", "bear").ids


def _collection(folder: Path) -> None:
    write_beir(folder)


def _first_stage(folder: Path) -> None:
    write(folder / "a.trec", "q1 Q0 d1 1 2.5 x\n")
    write(folder / "a.jsonl", '{"query_id": "q1", "document_ids": ["d1"]}\n')


def _pairs(folder: Path) -> None:
    write(folder / "pairs.jsonl", '{"query": "q", "passage": "p"}\n')


def _keys(folder: Path) -> None:
    write(folder / "keys", "ann:0123456789abcdef\n")


def _settings(folder: Path) -> None:
    write(folder / "a.toml", "port = 8123\n")


def _recipe(folder: Path) -> None:
    small_recipe(folder)


def _checkpoint(folder: Path) -> None:
    write_checkpoint(folder)


def _vocabulary(folder: Path) -> None:
    write(folder / "vocab.txt", "[CLS]\n[SEP]\n[UNK]\npanda\nbear\n")
    write(folder / "tokenizer_config.json", '{"do_lower_case": true}')


@pytest.mark.parametrize(
    ("make", "read", "files"),
    [
        (_collection, collection, "corpus.jsonl"),
        (_collection, collection, "queries.jsonl"),
        (_collection, collection, "qrels/test.tsv"),
        (_first_stage, first_stage, "a.*"),
        (_pairs, pairs, "pairs.jsonl"),
        (_keys, key_name, "keys"),
        (_settings, settings, "a.toml"),
        (_recipe, recipe, "recipe.toml"),
        (_checkpoint, scores, "*.json"),
        (_vocabulary, vocabulary, "vocab.txt"),
        (_vocabulary, vocabulary, "tokenizer_config.json"),
    ],
)
def test_a_byte_order_mark_changes_nothing(
    tmp_path: Path, make: Callable[[Path], None], read: Callable[[Path], Any], files: str
) -> None:
    make(tmp_path)
    expected = read(tmp_path)
    mark(tmp_path, files)
    assert read(tmp_path) == expected


def test_a_byte_order_mark_in_an_index_of_shards_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "config.json", "{}")
    write(tmp_path / "part.safetensors", "")
    index = {"weight_map": {"a": "part.safetensors"}}
    write(tmp_path / "model.safetensors.index.json", json.dumps(index))
    mark(tmp_path, "*.index.json")
    found = find_checkpoint(tmp_path, tokenizer=False)
    assert found.weights == (tmp_path / "part.safetensors",)


def test_a_byte_order_mark_does_not_lose_what_an_evaluation_has_finished(tmp_path: Path) -> None:
    path = tmp_path / "state.jsonl"
    done = {"q1": SystemScores(scores=[0.5])}
    StateFile(path, "print").append(1.0, done)
    mark(tmp_path, "state.jsonl")
    marked = StateFile(path, "print")
    assert marked.finished.scores == done
    marked.append(2.0, {"q2": SystemScores(scores=[0.25])})
    assert set(StateFile(path, "print").finished.scores) == {"q1", "q2"}


@pytest.mark.parametrize(
    ("make", "read", "name"),
    [
        (_collection, collection, "corpus.jsonl"),
        (_collection, collection, "qrels/test.tsv"),
        (_first_stage, first_stage, "a.trec"),
        (_first_stage, first_stage, "a.jsonl"),
        (_pairs, pairs, "pairs.jsonl"),
        (_keys, key_name, "keys"),
        (_settings, settings, "a.toml"),
        (_recipe, recipe, "recipe.toml"),
    ],
)
def test_a_byte_that_is_not_utf8_is_an_error_with_its_line(
    tmp_path: Path, make: Callable[[Path], None], read: Callable[[Path], Any], name: str
) -> None:
    make(tmp_path)
    path = tmp_path / name
    lines = path.read_bytes().count(b"\n") + (not path.read_bytes().endswith(b"\n"))
    path.write_bytes(path.read_bytes().rstrip(b"\n") + b"\n# secret: caf\xe9\n")
    with pytest.raises(RerankError) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(f"{path}:{lines + 1}: is not UTF-8 text")
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value, InputError | ConfigurationError)


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("make", "read", "name", "text", "kind"),
    [
        (_collection, collection, "corpus.jsonl", DEEP, InputError),
        (_pairs, pairs, "pairs.jsonl", DEEP, InputError),
        (_settings, settings, "a.toml", f"models = {DEEP}", ConfigurationError),
        (_recipe, recipe, "recipe.toml", f"a = {DEEP}", InputError),
        (_checkpoint, scores, "config.json", DEEP, ModelLoadError),
        (_checkpoint, scores, "tokenizer.json", DEEP, ModelLoadError),
        (_vocabulary, vocabulary, "tokenizer_config.json", DEEP, ModelLoadError),
        (_pairs, lambda folder: read_summary(folder / "s.json"), "s.json", DEEP, InputError),
    ],
)
def test_what_is_nested_too_deeply_is_an_error_that_names_the_file(
    tmp_path: Path,
    make: Callable[[Path], None],
    read: Callable[[Path], Any],
    name: str,
    text: str,
    kind: type[RerankError],
) -> None:
    make(tmp_path)
    write(tmp_path / name, text)
    with pytest.raises(kind) as caught:
        read(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_text_with_half_a_character_is_an_error_with_its_line(tmp_path: Path) -> None:
    write_beir(tmp_path)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(corpus.read_text() + '{"_id": "new", "text": "cut \\ud83d"}\n')
    with pytest.raises(InputError, match=r"corpus\.jsonl:7: text: holds a lone surrogate"):
        read_beir(tmp_path)


def test_a_key_that_an_object_has_twice_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"query": "q", "passage": "a", "passage": "b"}\n')
    with pytest.raises(InputError, match=r"a\.jsonl:1: is not JSON: .* key 'passage' twice"):
        list(read_pairs(path))

from __future__ import annotations

import gzip

import pytest

from jina_rerank import InputError
from jina_rerank.distillation.data.pairs import (
    TrainingPair,
    by_source,
    read_pairs,
    with_fewer_queries,
)


def test_pairs_are_read_with_their_source(tmp_path):
    path = tmp_path / "manuals.jsonl"
    path.write_text(
        '{"query": "q", "passage": "p"}\n\n{"query": "é", "passage": "p", "source": "else"}\n',
        encoding="utf-8",
    )
    assert list(read_pairs(path)) == [
        TrainingPair("q", "p", "manuals"),
        TrainingPair("é", "p", "else"),
    ]


def test_gzip_is_read(tmp_path):
    path = tmp_path / "manuals.jsonl.gz"
    path.write_bytes(gzip.compress('{"query": "é", "passage": "p"}\n'.encode()))
    assert list(read_pairs(path)) == [TrainingPair("é", "p", "manuals")]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark_and_any_line_ends_are_read(tmp_path, end):
    path = tmp_path / "manuals.jsonl"
    lines = ['{"query": "q", "passage": "p"}', '{"query": "r", "passage": "s", "source": null}']
    path.write_bytes(b"\xef\xbb\xbf" + "".join(line + end for line in lines).encode())
    assert list(read_pairs(path)) == [
        TrainingPair("q", "p", "manuals"),
        TrainingPair("r", "s", "manuals"),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "must be a JSON object"),
        ('{"query": "q"}', "passage: must be a text that is not blank, not None"),
        ('{"query": " ", "passage": "p"}', "query: must be a text"),
        ('{"query": 3, "passage": "p"}', "query: must be a text that is not blank, not 3"),
        ('{"query": "q", "passage": "p", "source": 3}', "source: must be a text"),
        ('{"query": "q", "passage": "\\ud800"}', "passage: holds a lone surrogate"),
        ('{"query": "q", "passage": "\\u0000"}', "passage: holds a NUL"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, said):
    path = tmp_path / "manuals.jsonl"
    path.write_text('{"query": "q", "passage": "p"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"manuals.jsonl:2: {said}"):
        list(read_pairs(path))


WHOLE = gzip.compress(b'{"query": "q", "passage": "p"}\n' * 1000)


@pytest.mark.parametrize("content", [None, b"\x1f\x8bno", WHOLE[:-20]])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "pairs.jsonl.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"pairs\.jsonl\.gz: cannot be read"):
        list(read_pairs(path))


def test_a_line_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b'{"query": "q", "passage": "p"}\n\xff\xfe\x00\n')
    with pytest.raises(InputError, match=r"pairs\.jsonl:2: is not UTF-8"):
        list(read_pairs(path))


def test_pairs_are_grouped_and_each_text_kept_once():
    pairs = [
        TrainingPair("q1", "p1", "a"),
        TrainingPair("q2", "p1", "a"),
        TrainingPair("q1", "p2", "a"),
        TrainingPair("q1", "p2", "a"),
        TrainingPair("q1", "p1", "b"),
    ]
    first, second = by_source(pairs)
    assert (first.name, first.passages, first.queries) == (
        "a",
        ["p1", "p2"],
        {"q1": [0, 1], "q2": [0]},
    )
    assert (second.name, second.passages, second.queries) == ("b", ["p1"], {"q1": [0]})


def test_queries_are_drawn_and_passages_stay():
    (source,) = by_source(TrainingPair(f"q{i}", f"p{i}", "manual") for i in range(30))
    fewer = with_fewer_queries(source, 10, seed=0)
    assert len(fewer.queries) == 10
    assert fewer.queries.items() <= source.queries.items()
    assert fewer.passages == source.passages
    assert len(source.queries) == 30
    assert with_fewer_queries(source, 10, seed=0) == fewer
    assert with_fewer_queries(source, 10, seed=1) != fewer
    assert with_fewer_queries(source, 31, seed=0) == source

"""Collections in BEIR layout, and what is said of files that are not."""

import gzip
import re
from pathlib import Path

import pytest
from judged import DOCUMENTS, QRELS, QUERIES, write_beir

from jina_rerank import InputError
from jina_rerank.evaluation import load_collection, read_beir

COFFEE = Path(__file__).parents[2] / "examples" / "data" / "coffee"


@pytest.mark.parametrize("gz", [False, True])
def test_title_and_text_are_joined_and_only_judged_queries_are_kept(
    tmp_path: Path, gz: bool
) -> None:
    collection = read_beir(write_beir(tmp_path / "places", gz=gz))
    assert collection.name == "places"
    assert collection.documents == DOCUMENTS
    assert collection.queries == QUERIES
    assert collection.qrels == QRELS
    assert collection.judgements == 6


def test_a_real_one() -> None:
    coffee = load_collection(str(COFFEE))
    assert (len(coffee.queries), len(coffee.documents), coffee.judgements) == (210, 327, 320)
    assert coffee.qrels["q5"]["7"] == 2
    assert coffee.documents["7"].startswith("Tamping is one of three")


def test_a_part_of_the_queries_is_spread_over_all_of_them() -> None:
    coffee = load_collection(str(COFFEE))
    part = coffee.take(3)
    names = list(coffee.queries)
    assert list(part.queries) == [names[0], names[70], names[140]]
    assert part.qrels.keys() == part.queries.keys()
    assert part.documents == coffee.documents
    assert coffee.take(10_000).queries == coffee.queries
    with pytest.raises(InputError, match="at least 1"):
        coffee.take(0)


def test_splits_and_a_name_of_ones_own(tmp_path: Path) -> None:
    folder = write_beir(tmp_path)
    (folder / "qrels" / "dev.tsv").write_text("q3\tsea\t1\n")  # without a heading
    dev = read_beir(folder, split="dev", name="sea questions")
    assert (dev.name, dict(dev.qrels)) == ("sea questions", {"q3": {"sea": 1}})
    with pytest.raises(InputError, match=re.escape("train.tsv: is missing; of splits there are")):
        read_beir(folder, split="train")


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("corpus.jsonl", "nonsense", "corpus.jsonl:7: is not JSON"),
        ("corpus.jsonl", "[1]", "corpus.jsonl:7: must be a JSON object, not list"),
        ("corpus.jsonl", '{"_id": "a"}', "corpus.jsonl:7: must have a string under 'text'"),
        ("corpus.jsonl", '{"text": "a"}', "corpus.jsonl:7: must have an identifier under '_id'"),
        ("corpus.jsonl", '{"_id": "sea", "text": "a"}', "corpus.jsonl:7: has the _id 'sea' of "),
        ("queries.jsonl", '{"_id": "q1", "text": "a"}', "queries.jsonl:5: has the _id 'q1' of "),
        ("qrels/test.tsv", "q1 paris 1", "test.tsv:8: must be query id, document id and grade"),
        ("qrels/test.tsv", "q1\tparis\tgood", "test.tsv:8: has the grade 'good'"),
        ("qrels/test.tsv", "q1\tparis\t1", "test.tsv:8: judges 'paris' for 'q1' again"),
        ("qrels/test.tsv", "q9\tparis\t1", "test.tsv:8: judges the query 'q9', which"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, file: str, line: str, message: str) -> None:
    folder = write_beir(tmp_path)
    with (folder / file).open("a") as lines:
        lines.write(f"{line}\n")
    with pytest.raises(InputError, match=re.escape(message)):
        read_beir(folder)


def test_a_judged_query_that_is_blank(tmp_path: Path) -> None:
    folder = write_beir(tmp_path)
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": " "}\n')
    (folder / "qrels" / "test.tsv").write_text("q1\tparis\t1\n")
    with pytest.raises(InputError, match=re.escape("queries.jsonl:1: is blank")):
        read_beir(folder)


@pytest.mark.parametrize("file", ["corpus.jsonl", "queries.jsonl"])
def test_a_file_that_is_missing_or_empty(tmp_path: Path, file: str) -> None:
    folder = write_beir(tmp_path)
    (folder / file).write_text("\n")
    with pytest.raises(InputError, match="is empty"):
        read_beir(folder)
    (folder / file).unlink()
    with pytest.raises(InputError, match=re.escape(f"{file}: is missing; a collection in BEIR")):
        read_beir(folder)


def test_no_judgements(tmp_path: Path) -> None:
    folder = write_beir(tmp_path)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n")
    with pytest.raises(InputError, match="has no judgements"):
        read_beir(folder)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    folder = write_beir(tmp_path)
    line = b'{"_id": "%d", "text": "b"}\n'
    lines = b"".join(line % i for i in range(900))
    (folder / "corpus.jsonl").write_bytes(lines + b'{"_id": "a", "text": "\xff"}\n' + line % 900)
    with pytest.raises(InputError, match=r"corpus.jsonl:901: is not UTF-8"):
        read_beir(folder)
    (folder / "corpus.jsonl").unlink()
    whole = gzip.compress(lines)
    for broken in (b"no gzip at all", whole[:-12]):
        (folder / "corpus.jsonl.gz").write_bytes(broken)
        with pytest.raises(InputError, match=r"corpus.jsonl.gz: cannot be read"):
            read_beir(folder)


def test_whole_numbers_are_identifiers_and_a_missing_title_is_none(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"_id": 7, "title": null, "text": "a"}\n')
    (tmp_path / "queries.jsonl").write_text('\n{"_id": 1, "text": "b"}\n')
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("1\t7\t1\n")
    collection = read_beir(tmp_path)
    assert collection.documents == {"7": "a"}
    assert collection.queries == {"1": "b"}


@pytest.mark.parametrize("folder", ["/absent/folder", "./absent", "../absent", "~/absent"])
def test_a_folder_that_is_not_there_is_no_name(folder: str) -> None:
    with pytest.raises(InputError, match="there is no such folder") as caught:
        load_collection(folder)
    assert caught.value.argument == folder

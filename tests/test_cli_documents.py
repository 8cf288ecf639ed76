"""Documents that the command reads, whatever the file: nothing lost, nothing that was not
meant."""

import codecs
import csv
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from jina_rerank import InputError
from jina_rerank.cli.app import app
from jina_rerank.cli.documents import Document, read_documents

ROWS = [{"id": "a", "text": "Berlin, in Germany"}, {"id": "b", "text": 'Paris\tis "the" capital'}]


def table(rows: list[dict[str, str]], delimiter: str) -> str:
    """As Python's own writer makes it."""
    written = io.StringIO()
    writer = csv.DictWriter(written, rows[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()


WRITTEN = {
    "docs.csv": table(ROWS, ","),
    "docs.tsv": table(ROWS, "\t"),
    "docs.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "docs.ndjson": "".join(json.dumps(row) + "\n" for row in ROWS),
    "docs.json": json.dumps(ROWS, indent=2),
    "lines.json": "".join(json.dumps(row) + "\n" for row in ROWS),
    "no_suffix": "".join(json.dumps(row) + "\n" for row in ROWS),
    "an_array": json.dumps(ROWS),
    "docs.txt": json.dumps(ROWS[0]) + "\n" + json.dumps(ROWS[1]),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("name", WRITTEN)
def test_each_format_is_read_as_what_it_is_packed_or_not_and_with_a_byte_order_mark(
    tmp_path: Path, name: str, mark: bytes, packed: bool
) -> None:
    content = mark + WRITTEN[name].encode()
    path = tmp_path / (f"{name.upper()}.gz" if packed else name)
    path.write_bytes(gzip.compress(content) if packed else content)
    found = read_documents([path], None, "text")
    assert [{"id": document.id, "text": document.text} for document in found] == ROWS
    assert {document.source for document in found} == {str(path)}


def test_an_array_may_hold_the_texts_themselves(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[\n "Oslo",\n {"body": "Rome"}\n]')
    assert read_documents([path], None, "body") == [
        Document("Oslo", f"{path}[0]", str(path), f"{path}[0]"),
        Document("Rome", f"{path}[1]", str(path), f"{path}[1]"),
    ]


fields = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff"), min_size=1).filter(
    lambda text: text.strip() != ""
)


@given(st.lists(st.tuples(fields, fields), min_size=1), st.sampled_from([",", "\t"]))
def test_a_table_that_pythons_own_writer_made_comes_back_whole(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str
) -> None:
    path = tmp_path_factory.mktemp("tables") / ("a.csv" if delimiter == "," else "a.tsv")
    written = table([{"id": one, "text": text} for one, text in rows], delimiter)
    path.write_text(written, encoding="utf-8", newline="")
    found = read_documents([path], None, "text")
    assert [(document.id, document.text) for document in found] == rows


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "text\nBerlin is in Germany, Paris is the capital\n", ":2: the row has 2 of 1"),
        ("a.csv", 'text,id\n"Rome,\nOslo",1\nParis, Berlin,2\n', ":4: the row has 3 of 2 fields"),
        ("a.csv", "id,text,note\n1,Rome\n", ":2: the row has 2 of 3 fields"),
        ("a.csv", "id,text,text\n1,Rome,Oslo\n", ":1: has 2 columns 'text'"),
        ("a.csv", "\n\nid,id,text\n1,2,Rome\n", ":3: has 2 columns 'id'"),
        ("a.csv", "text,,\nBerlin is in Germany, Paris is,the capital\n", ":2: has text in a col"),
        ("a.csv", 'id,text\n1,Rome\n2,"Oslo\n3,Paris\n', ":3: is not CSV"),
        ("a.csv", "id;text\n1;Rome\n", ":1: has no column 'text'"),
        ("a.tsv", "text\nBerlin\tParis\n", ":2: the row has 2 of 1 fields"),
        ("a.tsv", "text\ttext\nBerlin\tParis\n", ":1: has 2 columns 'text'"),
        ("a.tsv", "Berlin\n", ":1: has no column 'text'"),
        ("a.json", '[\n{"text": "a"},\n{"text" "b"}\n]', ":3: is not JSON: Expecting ':'"),
        ("a.json", '{"text": {"text": "a"}}', ":1: must be an object with a string under"),
        ("a.json", "[[1]]", "[0]: must be an object with a string under 'text'"),
        ("a.json", "Berlin", ":1: is not JSON"),
        ("a.json", "[" * 100_000, ":1: is not JSON: it is nested too deeply"),
        ("a.jsonl", '{"text": "a"}\n' + "[" * 100_000, ":2: is not JSON: it is nested too deeply"),
        ("a.jsonl", '{"text":' * 50_000, ":1: is not JSON: it is nested too deeply"),
        (
            "a.jsonl",
            '{"text": "a"}\n{"text": \n{"text": "b"}\n',
            ":2: is not JSON: Expecting value",
        ),
        ("a.json", '[\n{"text": "a"},\n', ":2: is not JSON"),
        ("a.jsonl", '\n{"text": "a", "text": "b"}', ":2: is not JSON: an object has the key 'text"),
        ("a.jsonl", '{"text": "a"}\n{"text": "cut \\ud83d"}', ":2: holds a lone surrogate"),
        ("a.txt", "a\nb\0c\n", ":2: holds a NUL character"),
        ("a.jsonl", '{"text": "a", "id": true}', ":1: must have an identifier under 'id'"),
        ("a.jsonl", '{"text": "a", "_id": ["x"]}', ":1: must have an identifier under '_id'"),
        ("a.jsonl", '{"text": "a", "id": 1.5}', ":1: must have an identifier under 'id'"),
        ("a.csv", "", ": is empty"),
        ("a.csv", "id,text\n", ": is empty"),
        ("a.json", " ", ": is empty"),
        ("a.json", "[]", ": is empty"),
        ("a.jsonl", "\n \n", ": is empty"),
        ("a.txt", "\ufeff\n", ": is empty"),
    ],
)
def test_what_would_be_lost_or_is_something_else_is_an_error_that_names_the_line(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    with pytest.raises(InputError) as caught:
        read_documents([path], None, "text")
    assert str(caught.value).startswith(f"{path}{said}")


def test_a_first_column_without_a_name_may_number_the_rows(tmp_path: Path) -> None:
    """As pandas writes it; and what spreadsheets leave behind empty columns does no harm."""
    path = tmp_path / "a.csv"
    path.write_text(",text,,\n0,Rome,,\n1,Oslo,, \n")
    assert [document.text for document in read_documents([path], None, "text")] == ["Rome", "Oslo"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ('{"id": null, "_id": "real", "text": "a"}', "real"),
        ('{"id": "", "_id": 0, "text": "a"}', "0"),
        ('{"id": "first", "_id": "second", "text": "a"}', "first"),
        ('{"id": null, "_id": null, "text": "a"}', "{path}:1"),
        ('{"id": 9007199254740993, "text": "a"}', "9007199254740993"),
    ],
)
def test_an_identifier_that_is_null_or_blank_is_none(
    tmp_path: Path, given: str, expected: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(given)
    (found,) = read_documents([path], None, "text")
    assert found.id == expected.format(path=path)


def test_an_empty_file_among_others_is_reported_and_the_others_are_ranked(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Rome\n")
    (tmp_path / "b.txt").write_text("\n")
    done = command("rank", "q", str(tmp_path / "a.txt"), str(tmp_path / "b.txt"))
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
    assert done.stderr.decode() == f"{tmp_path / 'b.txt'}: is empty\n"


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ('{"text": "Rome"}\n{"text": "Oslo"}\n', ["Rome", "Oslo"]),
        ('\n\n{"text": "Rome", "more": [{}]}\n', ["Rome"]),
        ('["Rome", {"text": "Oslo"}]', ["Rome", "Oslo"]),
        ('[\n  {\n    "text": "Rome"\n  }\n]\n', ["Rome"]),
        ('{\n  "text": "Rome"\n}\n', ["Rome"]),
        ("Rome\rOslo\r\nParis", ["Rome", "Oslo", "Paris"]),
        ("[12:01] Rome\n[12:02] Oslo\n", ["[12:01] Rome", "[12:02] Oslo"]),
        ("Plain prose, text, and more.\n", ["Plain prose, text, and more."]),
    ],
)
def test_standard_input_is_read_as_what_it_holds(given: str, texts: list[str]) -> None:
    result = CliRunner().invoke(app, ["rank", "q"], input=given)
    assert result.exit_code == 0, result.stderr
    found = sorted(map(json.loads, result.stdout.splitlines()), key=lambda hit: hit["index"])
    assert [hit["text"] for hit in found] == texts


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "standard input: is empty"),
        (" \n\n", "standard input: is empty"),
        ("[]", "standard input: is empty"),
        ("text\nRome\n", "standard input:1: begins like a table with a column 'text'"),
        ('\n"id","text"\n1,Rome\n', "standard input:2: begins like a table"),
        ("id\ttext\n1\tRome\n", "standard input:1: begins like a table"),
        ('[\n{"text": "Rome"},\n', "standard input:1: begins like JSON and is none"),
        ("{'text': 'Rome'}\n", "standard input:1: begins like JSON and is none"),
        ("[" * 100_000, "standard input:1: begins like JSON and is none"),
        ('{"text": "Rome"}\nOslo\n', "standard input:2: is not JSON"),
        ('{"text": "Rome"}\n{"title": "Oslo"}\n', "standard input:2: must be an object"),
    ],
)
def test_nothing_is_scored_where_standard_input_could_be_something_else(
    given: str, said: str
) -> None:
    result = CliRunner().invoke(app, ["rank", "q"], input=given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


@pytest.mark.parametrize("given", ['{"text": "Rome"}', "text", "[", '[{"a"'])
def test_a_named_format_settles_what_a_line_is(given: str) -> None:
    result = CliRunner().invoke(app, ["rank", "q", "--format", "text"], input=given)
    assert json.loads(result.stdout)["text"] == given


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.json", "a.tsv.gz"])
def test_a_byte_that_is_not_utf8_is_an_error_with_its_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    # Far behind what a decoder reads at once, and behind each of the three line ends.
    content = b"text\n" + b"Rome\r\nOslo\rParis\n" * 9_000 + b"caf\xe9\n"
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(InputError) as caught:
        read_documents([path], None, "text")
    if name in {"a.txt", "a.csv", "a.json", "a.tsv.gz"}:
        assert str(caught.value).startswith(f"{path}:27002: is not UTF-8 text at column 4")
    else:
        assert str(caught.value).startswith(f"{path}:1: is not JSON")


@pytest.mark.parametrize("content", ["a\nb\n".encode("utf-16"), b"\xef\xbb", b"a\n\xed\xa0\xbd\n"])
def test_other_encodings_on_standard_input_are_errors_with_their_line(content: bytes) -> None:
    done = command("rank", "q", given=content)
    line = 2 if content.startswith(b"a\n") else 1
    assert (done.returncode, done.stdout) == (2, b"")
    assert f"standard input:{line}: is not UTF-8 text" in done.stderr.decode()


def test_a_byte_order_mark_is_not_scored_even_where_cat_put_it(tmp_path: Path) -> None:
    plain = command("rank", "capital?", given=b"Paris\nBerlin\n")
    marked = codecs.BOM_UTF8 + b"Paris\n" + codecs.BOM_UTF8 + b"Berlin\n"
    assert command("rank", "capital?", given=marked).stdout == plain.stdout


def test_an_incomplete_packed_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(os.urandom(5000).hex().encode())[:-9])
    with pytest.raises(InputError, match=r"a\.txt\.gz: cannot be read: Compressed file ended"):
        read_documents([path], None, "text")


def command(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "jina_rerank.cli", *arguments],
        input=given,
        capture_output=True,
        check=False,
    )

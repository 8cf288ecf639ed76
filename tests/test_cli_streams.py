"""The command's standard streams: UTF-8 in every locale, and an end in order where one is gone."""

import json
import os
import pty
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "jina_rerank.cli"]
SHELL = shlex.join(COMMAND)
OLD = {"PYTHONIOENCODING": "cp1252"}
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
COFFEE = Path(__file__).parents[1] / "examples" / "data" / "coffee"


def run(
    *arguments: str | bytes, given: str = "", **variables: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments],
        input=given.encode(),
        capture_output=True,
        check=False,
        env=os.environ | variables,
    )


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """A line of bash, in which $RUN is the command; the statuses of its pipe are its last line."""
    return subprocess.run(
        ["bash", "-c", f'{line.replace("$RUN", SHELL)}\necho "${{PIPESTATUS[@]}}"'],
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture(scope="module")
def long_output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents whose ranking no pipe holds at once."""
    path = tmp_path_factory.mktemp("long") / "a.txt"
    path.write_text("".join(f"{i} {'word ' * 2000}\n" for i in range(40)))
    return path


def test_texts_are_utf8_whatever_the_locale(tmp_path: Path) -> None:
    """Query, column, path and both kinds of input in, and results out."""
    path = tmp_path / "漢 café.jsonl"
    path.write_text('{"größe": "日本 café"}\n', encoding="utf-8")
    arguments = ["rank", "où? 漢", str(path), "-", "--column", "größe"]
    expected, *found = (
        run(*arguments, given='{"größe": "ß — €"}\n', **variables)
        for variables in ({"PYTHONUTF8": "1"}, OLD, ASCII)
    )
    hits = [json.loads(line) for line in expected.stdout.decode().splitlines()]
    assert {(hit["text"], hit["source"]) for hit in hits} == {
        ("日本 café", str(path)),
        ("ß — €", "-"),
    }
    for done in found:
        assert (done.returncode, done.stderr, done.stdout) == (0, b"", expected.stdout)


def test_errors_are_utf8_whatever_the_locale() -> None:
    for variables in (OLD, ASCII):
        done = run("rank", "q", "/nowhere/漢é.txt", **variables)
        assert done.stderr.decode() == (
            "jina-rerank: /nowhere/漢é.txt: cannot be read: No such file or directory\n"
        )


def test_help_and_settings_are_utf8_whatever_the_locale() -> None:
    for arguments in (["rank", "--help"], ["serve", "--show-settings"]):
        for variables in (OLD, ASCII):
            done = run(*arguments, **variables)
            assert (done.returncode, done.stderr) == (0, b"")
            assert done.stdout.decode()


def test_a_query_that_is_not_utf8_is_bad_usage() -> None:
    done = run("rank", b"caf\xe9", given="a\n")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"query: " in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_path_that_is_not_utf8_can_be_read_and_its_name_is_valid_json(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    try:
        Path(os.fsdecode(path)).write_text("Rome\n")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    done = run("rank", "q", path)
    assert os.fsencode(json.loads(done.stdout.decode())["source"]) == path


def test_an_evaluation_is_written_in_utf8_whatever_the_locale(tmp_path: Path) -> None:
    folder = tmp_path / "漢"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "d1", "text": "café 漢"}\n', encoding="utf-8")
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "café"}\n', encoding="utf-8")
    (folder / "qrels" / "test.tsv").write_text("q1\td1\t1\n")
    for number, variables in enumerate((OLD, ASCII)):
        output = tmp_path / str(number)
        done = run("eval", str(folder), "--model", "bm25", "-o", str(output), **variables)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.decode().startswith("漢: 1 queries, 1 documents")
        assert (output / "report.md").read_text(encoding="utf-8").startswith("漢: 1 queries")


def test_an_evaluation_of_a_folder_that_is_not_utf8_is_written(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    try:
        shutil.copytree(COFFEE, os.fsdecode(folder))
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    done = run("eval", folder, "-m", "bm25", "-o", str(tmp_path / "out"), "--queries", "2")
    assert (done.returncode, done.stderr) == (0, b"")
    written = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert os.fsencode(written["collection"]) == b"caf\xe9"


def test_a_reader_that_has_gone_is_no_failure_of_the_model(long_output: Path) -> None:
    """141 is what bash says of `yes | head -1`."""
    for line in (
        f"$RUN rank q {long_output} --max-length 20 | head -1 >/dev/null",
        f"$RUN rank q {long_output} --max-length 20 2>&1 | head -c 10 >/dev/null",
    ):
        done = shell(line)
        assert (done.stderr, done.stdout) == ("", "141 0\n")


@pytest.mark.parametrize(
    "arguments", [["rank", "--help"], ["models"], ["serve", "--show-settings"]]
)
def test_a_reader_that_was_never_there_is_no_failure_either(arguments: list[str]) -> None:
    """With output that fits into a pipe, so that nothing fails before the end."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, *arguments], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    "arguments",
    ["rank q /dev/stdin", "models", "--help", "serve --show-settings", f"eval {COFFEE} -m bm25"],
)
@pytest.mark.parametrize(
    ("where", "said"),
    [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")],
)
def test_output_that_cannot_be_written_is_said_and_not_a_success(
    arguments: str, where: str, said: str
) -> None:
    done = shell(f"$RUN {arguments} {where} <<< 'one line'")
    assert done.stdout == "2\n"
    assert done.stderr == f"jina-rerank: standard output: cannot be written: {said}\n"


def test_an_export_that_cannot_say_where_it_is_keeps_its_files(tmp_path: Path) -> None:
    done = shell(f"$RUN export jina-rerank-mini {tmp_path / 'onnx'} >/dev/full")
    assert done.stdout == "2\n"
    assert "standard output: cannot be written" in done.stderr
    assert (tmp_path / "onnx" / "model.onnx").is_file()


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-"])
def test_without_standard_error_the_command_goes_on_and_keeps_its_statuses(where: str) -> None:
    ranked = shell(f"$RUN -v rank q {where} <<< 'one line'")
    line, status = ranked.stdout.splitlines()
    assert (json.loads(line)["text"], status) == ("one line", "0")
    assert shell(f"$RUN rank q /no/such/file {where}").stdout == "2\n"
    assert shell(f"$RUN rank q -m /no/such/model {where} <<< a").stdout == "1\n"
    assert shell(f"$RUN rank --nonsense {where}").stdout == "2\n"


def test_without_standard_input_the_command_says_so() -> None:
    done = shell("$RUN rank q <&-")
    assert done.stdout == "2\n"
    assert done.stderr == "jina-rerank: standard input: cannot be read: Bad file descriptor\n"


def test_without_any_stream_the_command_ends_with_its_status() -> None:
    assert shell("$RUN rank q <&- >&- 2>&-").stdout == "2\n"
    assert shell("$RUN models <&- >&- 2>&-").stdout == "2\n"


def test_a_terminal_in_an_old_locale_gets_its_table_in_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("日本 café\n", encoding="utf-8")
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "rank", "q", str(tmp_path / "a.txt")],
        stdout=theirs,
        stderr=theirs,
        env=os.environ | ASCII | OLD | {"TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    while chunk := _read(terminal):
        shown += chunk
    os.close(terminal)
    assert process.wait(60) == 0
    assert "日本 café" in shown.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # how Linux ends a pseudo-terminal
        return b""

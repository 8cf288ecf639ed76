"""The command as a person and as a pipe meet it."""

import importlib.metadata
import json
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from jina_rerank import InputError, LocalScorer, Reranker
from jina_rerank.cli.app import app
from jina_rerank.cli.documents import Document, read_documents
from jina_rerank.encoders.int8 import can_multiply_int8

QUERY = "What is the capital of France?"
COFFEE = str(Path(__file__).parents[1] / "examples" / "data" / "coffee")
LINES = "Berlin is the capital of Germany.\n\nParis is the capital of France.\nBread is baked.\n"


def run(*args: str, text: str | None = None) -> tuple[int, list[dict[str, object]], str]:
    result = CliRunner().invoke(app, args, input=text)
    return (
        result.exit_code,
        [json.loads(line) for line in result.stdout.splitlines()],
        result.stderr,
    )


def test_standard_input_to_json_lines() -> None:
    status, hits, err = run("rank", QUERY, "--top-n", "2", text=LINES)
    assert (status, err) == (0, "")
    assert [hit["text"] for hit in hits] == [
        "Paris is the capital of France.",
        "Berlin is the capital of Germany.",
    ]
    assert [hit["id"] for hit in hits] == ["-:3", "-:1"]
    assert [hit["rank"] for hit in hits] == [1, 2]
    assert hits[0]["score"] > hits[1]["score"]


def test_ids_of_json_lines_and_csv_and_several_files(tmp_path: Path) -> None:
    jsonl, table, text = tmp_path / "a.jsonl", tmp_path / "b.csv", tmp_path / "c.txt"
    jsonl.write_text(
        '{"id": 7, "text": "Berlin"}\n{"_id": "x", "text": "Rome"}\n{"text": "Oslo"}\n'
    )
    table.write_text('id,text\np1,"Paris, the capital\nof France"\n')
    text.write_text("Madrid\n")
    status, hits, _ = run("rank", QUERY, str(jsonl), str(table), str(text))
    assert status == 0
    assert hits[0]["id"] == "p1"
    assert {hit["id"] for hit in hits} == {"7", "x", f"{jsonl}:3", "p1", f"{text}:1"}
    assert {hit["source"] for hit in hits} == {str(jsonl), str(table), str(text)}


def test_dtype_is_what_the_model_computes_in() -> None:
    dtypes = ["float32", "bfloat16", *(["int8"] if can_multiply_int8() else [])]
    seen: set[float] = set()
    for dtype in dtypes:
        status, hits, err = run("rank", QUERY, "--dtype", dtype, text=LINES)
        assert (status, err) == (0, "")
        scorer = LocalScorer(dtype=dtype)  # type: ignore[arg-type]
        expected = Reranker(scorer).rank(QUERY, [line for line in LINES.split("\n") if line])
        assert [hit["text"] for hit in hits] == [hit.text for hit in expected]
        assert [hit["score"] for hit in hits] == pytest.approx(
            [h.score for h in expected], abs=1e-6
        )
        seen.add(expected[0].score)
    assert len(seen) == len(dtypes)


def test_threshold_may_leave_nothing() -> None:
    assert run("rank", QUERY, "--threshold", "1.0", text=LINES) == (0, [], "")


def test_another_model_and_long_documents(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    options = ["--model", str(folder), "--max-length", "32"]
    status, (hit,), _ = run("rank", "panda", *options, text="bear " * 90)
    assert status == 0
    assert hit["truncated_tokens"] > 0
    status, (hit,), _ = run(
        "rank", "panda", *options, "--long-documents", "chunk", text="bear " * 90
    )
    assert hit["truncated_tokens"] == 0
    status, hits, err = run(
        "rank", "panda", *options, "--long-documents", "error", text="bear " * 90
    )
    assert (status, hits) == (2, [])
    assert "standard input:1: has 91 tokens and 27 fit" in err
    assert "split it, or use --long-documents truncate or chunk\n" in err


@pytest.mark.parametrize(
    ("args", "text", "status", "message"),
    [
        (["rank", " "], "a\n", 2, "query: is blank"),
        (["rank", "q", "--top-n", "0"], "a\n", 2, "--top-n: must be at least 1, not 0\n"),
        (
            ["rank", "q", "--threshold", "nan"],
            "a\n",
            2,
            "--threshold: is NaN, which no score can reach; pass a number, or leave it out\n",
        ),
        (["rank", "q", "/no/such/file"], "", 2, "/no/such/file: cannot be read: No such file"),
        (["rank", "q", "--model", "/no/such/model"], "a\n", 1, "/no/such/model: neither a folder"),
        (["rank", "q", "--model", "/no/a=b"], "a\n", 1, "/no/a=b: neither a folder"),
        (["rank", "q", "--model", ""], "a\n", 2, "model: '' is blank"),
        (["rank", "q", "--max-length", "3"], "a\n", 2, "--max-length must be a number from 16"),
        (["rank", "q", "--revision", "v1"], "a\n", 2, "revision: the embedded model has none"),
        (["rank", "q", "--revision", " "], "a\n", 2, "revision is blank"),
        (["rank", "q", "-m", ".", "--revision", "v1"], "a\n", 2, ". is a folder, which has no"),
        (["rank", "q", "--format", "jsonl"], "nonsense\n", 2, "standard input:1: is not JSON"),
        (
            ["rank", "q", "--format", "jsonl"],
            '{"a": 1}\n',
            2,
            "standard input:1: must be an object with a string",
        ),
        (["rank", "q", "--format", "csv"], "a,b\n1,2\n", 2, "no column 'text' but ['a', 'b']"),
        (
            ["rank", "q", "--format", "csv", "--column", "b"],
            "a,b\n1\n",
            2,
            "standard input:2: the row has 1 of 2 fields",
        ),
    ],
)
def test_errors_say_where_and_leave_a_status(
    args: list[str], text: str, status: int, message: str
) -> None:
    code, hits, err = run(*args, text=text)
    assert (code, hits) == (status, [])
    assert message in err
    assert "Traceback" not in err


def test_an_unknown_option_is_bad_usage() -> None:
    assert CliRunner().invoke(app, ["rank", "q", "--nonsense"]).exit_code == 2


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        read_documents([tmp_path / "a.txt"], None, "text")


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfhello\r\nworld")
    found = read_documents([tmp_path / "a.txt"], None, "text")
    assert [document.text for document in found] == ["hello", "world"]
    assert isinstance(found[0], Document)


def command(home: Path, *args: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with a hub's cache of its own and no network."""
    return subprocess.run(
        [sys.executable, "-m", "jina_rerank.cli", *args],
        input=text,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"},
        check=False,
    )


def cache_model(home: Path, name: str, *, ref: str | None = "main", commit: str = "a" * 40) -> Path:
    """A model in the hub's cache, as if it had been downloaded."""
    folder = home / "hub" / f"models--{name.replace('/', '--')}"
    if ref is not None:
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / ref).write_text(commit)
    return write_checkpoint(folder / "snapshots" / commit)


def without_tensors(snapshot: Path, prefix: str) -> None:
    weights = snapshot / "model.safetensors"
    state = {name: t for name, t in load_file(weights).items() if not name.startswith(prefix)}
    save_file(state, weights)


def test_models_shows_what_rank_can_load_and_nothing_else(tmp_path: Path) -> None:
    small = cache_model(tmp_path, "org/small")
    cache_model(tmp_path, "legacy")
    cache_model(tmp_path, "org/no-refs", ref=None)
    cache_model(tmp_path, "org/tagged", ref="v1")
    (cache_model(tmp_path, "org/no-tokenizer") / "tokenizer.json").unlink()
    (cache_model(tmp_path, "org/no-weights") / "model.safetensors").unlink()
    cache_model(tmp_path, "org/moved")
    (tmp_path / "hub" / "models--org--moved" / "refs" / "main").write_text("b" * 40)
    without_tensors(cache_model(tmp_path, "org/embedding"), "classifier")
    (cache_model(tmp_path, "org/cut") / "model.safetensors").write_bytes(b"\x00" * 20)
    (cache_model(tmp_path, "org/bert") / "config.json").write_text('{"model_type": "bert"}')
    done = command(tmp_path, "models")
    assert (done.returncode, done.stderr) == (0, "")
    found = {model["name"]: model for model in map(json.loads, done.stdout.splitlines())}
    assert list(found) == ["jina-rerank-mini", "legacy", "org/small"]
    assert (found["org/small"]["layers"], found["org/small"]["folder"]) == (2, str(small))
    names = [folder.name for folder in (tmp_path / "hub").iterdir()]
    for name in (folder.removeprefix("models--").replace("--", "/") for folder in names):
        ranked = command(tmp_path, "rank", "panda", "-m", name, text="bear\n")
        assert (ranked.returncode == 0) == (name in found), (name, ranked.stderr)


def test_a_revision_is_the_one_that_is_ranked_with(tmp_path: Path) -> None:
    cache_model(tmp_path, "org/tagged", ref="v1", commit="c" * 40)
    for revision, status in (("v1", 0), ("c" * 40, 0), ("v2", 1)):
        done = command(
            tmp_path, "rank", "panda", "-m", "org/tagged", "--revision", revision, text="bear\n"
        )
        assert done.returncode == status, done.stderr
    assert "hf download org/tagged --revision v2" in done.stderr


def test_the_command_tells_its_version(tmp_path: Path) -> None:
    done = command(tmp_path, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"jina-rerank {importlib.metadata.version('jina-rerank')}\n"


def test_models_without_a_cache_shows_the_embedded_one(tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("a file in its place")
    for home in (tmp_path / "absent", tmp_path):
        done = command(home, "models")
        assert done.returncode == 0
        assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == [
            "jina-rerank-mini"
        ]


def test_a_terminal_gets_a_table_and_a_pipe_does_not(tmp_path: Path) -> None:
    """In a real pseudo-terminal, with a progress bar for long input."""
    (tmp_path / "a.txt").write_text(LINES * 60)
    text = on_terminal("rank", QUERY, str(tmp_path / "a.txt"), "-n", "2", kind="xterm")
    assert re.search(r"100%\|█+\| (\d\S*)/\1 \[", text), "the progress bar, in tokens"
    assert "2 of 180 documents, jina-rerank-mini" in text
    assert "Paris is the capital of France." in text
    assert '"score"' not in text


def test_a_terminal_shows_texts_as_they_are_and_obeys_none(tmp_path: Path) -> None:
    found = {
        "id": "chunk:100:2",
        "text": "see :key: [red]here[/red] \x1b[2J\x1b]0;owned\x07 \x9b1m",
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(found) + "\n")
    # On a dumb terminal the table itself has no control characters.
    text = on_terminal("rank", "a :8: question", str(tmp_path / "a.jsonl"), kind="dumb")
    assert "chunk:100:2" in text
    assert "see :key: [red]here[/red] \ufffd[2J\ufffd]0;owned\ufffd \ufffd1m" in text
    assert "a :8: question" in text
    assert "\x1b" not in text


def on_terminal(*arguments: str, kind: str) -> str:
    """Run the command in a pseudo-terminal of 120 columns; gives all that it has shown."""
    terminal, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 120))
    process = subprocess.Popen(
        [sys.executable, "-m", "jina_rerank.cli", *arguments],
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": kind},
    )
    os.close(theirs)
    shown = b""
    while chunk := read(terminal):
        shown += chunk
    assert process.wait(60) == 0
    return shown.decode()


def read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # how Linux ends a pseudo-terminal
        return b""


def test_without_its_libraries_the_command_says_what_to_install() -> None:
    script = "import sys; sys.modules['typer'] = None; from jina_rerank.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert 'pip install "jina-rerank[local]"' in done.stderr
    assert done.stderr.strip().endswith('pip install "jina-rerank[onnx]"')


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["rank", "q", "--max-length", "3"], "--max-length must be a number from 16, not 3"),
        (["eval", COFFEE, "--depth", "0"], "--depth: must be at least 1, not 0"),
        (["eval", COFFEE, "--queries", "-2"], "--queries: must be at least 1, not -2"),
        (
            ["eval", COFFEE, "--suite", "llamaindex-rag", "--embedding", "x", "--depth", "3"],
            "--depth: must be at least 5, which are kept, with --suite llamaindex-rag, not 3",
        ),
        (
            ["serve", "--port", "99999"],
            "--port must be a whole number from 0 to 65535, not 99999",
        ),
        (["serve", "--max-documents", "0"], "--max-documents must be a whole number from 1, not 0"),
        (["serve", "--log-level", "loud"], "--log-level must be debug, info, warning or error"),
        (
            ["serve", "--host", "0.0.0.0"],
            "pass --key-file, or --allow-anonymous if something in front of it asks for keys",
        ),
    ],
)
def test_errors_name_flags_and_spell_values_as_a_shell_does(args: list[str], message: str) -> None:
    result = CliRunner().invoke(app, args, input="a\n")
    assert result.exit_code
    assert message in result.stderr
    for python in ("None", "drain", "max_", "key_file", "top_n", "log_level"):
        assert python not in result.stderr


def test_a_setting_from_elsewhere_is_named_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "serve.toml"
    file.write_text("max_length = 3\n")
    said = CliRunner().invoke(app, ["serve", "--config", str(file)]).stderr
    assert f"{file}: max_length must be a whole number from 16, not 3" in said
    monkeypatch.setenv("JINA_RERANK_PORT", "99999")
    said = CliRunner().invoke(app, ["serve"]).stderr
    assert "JINA_RERANK_PORT must be a whole number from 0 to 65535" in said


def test_an_error_in_a_document_names_its_line_or_its_place_in_an_array(tmp_path: Path) -> None:
    text, rows, array = tmp_path / "a.txt", tmp_path / "b.jsonl", tmp_path / "c.json"
    text.write_text("short\n\n" + "word " * 9000 + "\n")
    rows.write_text(json.dumps({"id": "p7", "text": "word " * 9000}) + "\n")
    array.write_text(json.dumps(["short", "word " * 9000]))
    options = ["--long-documents", "error"]
    assert f"jina-rerank: {text}:3: has 9,0" in run("rank", "q", str(text), *options)[2]
    assert f"jina-rerank: {rows}:1: has 9,0" in run("rank", "q", str(rows), *options)[2]
    assert f"jina-rerank: {array}[1]: has 9,0" in run("rank", "q", str(array), *options)[2]


def test_a_query_that_is_not_utf_8_is_not_answered_in_python() -> None:
    status, _, err = run("rank", "caf\udce9", text="a\n")
    assert status == 2
    assert "query: holds a lone surrogate at 3" in err
    assert "iconv" in err
    assert "decode()" not in err

"""Numbers in settings are finite and in range, wherever they were given."""

from __future__ import annotations

import json
import math
import re
import signal
from pathlib import Path

import httpx
import numpy as np
import pytest
from serve_processes import is_ready, run, serving
from serving import until

from jina_rerank.errors import ConfigurationError
from jina_rerank.server import Settings

REFUSED = [
    ("deadline", "nan"),
    ("deadline", "inf"),
    ("deadline", "-1"),
    ("deadline", "1e300"),
    ("drain", "nan"),
    ("drain", "inf"),
    ("drain", "-inf"),
    ("drain", "-0.5"),
    ("port", "-1"),
    ("port", "99999"),
    ("max_length", "15"),
    ("max_length", "0"),
    ("max_body_bytes", "0"),
    ("max_documents", "-3"),
    ("max_request_tokens", "0"),
    ("max_queued_tokens", "9" * 30),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_a_number_out_of_range_is_refused_by_the_name_it_was_given(
    name: str, value: str, tmp_path: Path
) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(f"{name} = {value}\n")
    variable = f"JINA_RERANK_{name.upper()}"
    number = float(value) if "." in value or value.strip("-") in {"nan", "inf"} else value
    with pytest.raises(ConfigurationError, match=f"^{re.escape(str(file))}: {name} must be"):
        Settings.read({}, {}, file)
    with pytest.raises(ConfigurationError, match=f"^{variable} must be"):
        Settings.read({}, {variable: value})
    with pytest.raises(ConfigurationError, match=f"^{name} must be"):
        Settings.read({name: number}, {})
    with pytest.raises(ConfigurationError, match=f"^{name} must be"):
        Settings(**{name: float(value) if name in {"deadline", "drain"} else int(value)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("deadline", 10**400),
        ("deadline", True),
        ("deadline", "55"),
        ("drain", None),
        ("port", 8000.0),
        ("port", True),
        ("max_documents", math.nan),
        ("max_documents", 10**4000),
        ("max_length", 512.5),
    ],
)
def test_what_is_no_such_number_is_refused_in_code(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} must be"):
        Settings(**{name: value})


def test_a_key_in_the_place_of_a_number_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings(deadline="ada-0123456789abcdef")
    assert "0123456789" not in str(caught.value)


@pytest.mark.parametrize("text", ["port = 8000.5", "max_documents = 1e3", "deadline = true"])
def test_a_file_s_number_of_the_wrong_kind_is_not_rounded(text: str, tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=re.escape(f"{file}: {text.split(maxsplit=1)[0]}")):
        Settings.read({}, {}, file)


def test_a_file_s_number_without_an_end_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(f"deadline = 1{'0' * 400}\n")
    with pytest.raises(ConfigurationError, match=re.escape(f"{file}: deadline")):
        Settings.read({}, {}, file)


def test_numpy_s_numbers_are_numbers() -> None:
    settings = Settings(port=np.int64(0), deadline=np.float32(3), max_length=np.int32(64))
    assert (settings.port, settings.deadline, settings.max_length) == (0, 3.0, 64)


@pytest.mark.parametrize(
    ("options", "variables", "said"),
    [
        (("--deadline", "nan"), {}, "--deadline must be a number of seconds above 0"),
        (("--deadline", "inf"), {}, "--deadline must be a number of seconds above 0"),
        (("--drain", "nan"), {}, "--drain must be a number of seconds from 0"),
        ((), {"JINA_RERANK_DRAIN": "Infinity"}, "JINA_RERANK_DRAIN must be"),
        (("--port", "99999"), {}, "--port must be a whole number from 0 to 65535, not 99999"),
    ],
)
def test_the_command_ends_with_one_line(
    options: tuple[str, ...], variables: dict[str, str], said: str
) -> None:
    done = run(*options, **variables)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"jina-rerank: {said}")


def test_the_longest_times_that_can_be_set_are_honoured(small_checkpoint: Path) -> None:
    longest = ("--deadline", "1000000", "--drain", "1000000")
    with serving("--model", str(small_checkpoint), *longest) as (process, url):
        until(lambda: is_ready(url))
        body = {"query": "panda", "documents": ["bear"]}
        assert httpx.post(f"{url}/v1/rerank", json=body).status_code == 200
        process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{url}/ready").text == "draining")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert "Traceback" not in log
    assert all(json.loads(line) for line in log.splitlines())


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ({"deadline": math.nan}, "deadline"),
        ({"deadline": "inf"}, "deadline"),
        ({"max_length": 1}, "max_length"),
        ({"max_documents": 2.5}, "max_documents"),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of Ray's, when it is imported
def test_a_ray_config_file_is_held_to_the_same(args: dict[str, object], named: str) -> None:
    pytest.importorskip("ray.serve")
    from jina_rerank.ray import build

    with pytest.raises(ConfigurationError, match=named):
        build(args)

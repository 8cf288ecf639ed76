"""Runs the code blocks of the README and of the documentation, a page at a time.

What a page shows as their output, and as answers to requests, is compared: see tests/pages.py.
"""

import contextlib
import io
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from unittest import SkipTest

# Before anything imports the framework: it would report that the tests ran.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

import httpx
from faults import FaultServer
from pages import FENCE, REQUEST, check_same, outputs
from serving import LiveService, until
from sybil import Document, Example, Region, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser
from sybil.region import Lexeme

ROOT = Path(__file__).parent


def run_shell(example: Example) -> None:
    """Run a command line, and check an installation against what the wheel tests install."""
    command = example.parsed.strip()
    if command.startswith("pip install "):
        wheel_tests = (ROOT / "tests" / "test_wheels.py").read_text(encoding="utf-8")
        for requirement in requirements_of(command):
            name, _, extras = requirement.rstrip("]").partition("[")
            assert name in wheel_tests, f"no wheel test installs {name}"
            for extra in filter(None, extras.split(",")):
                assert extra in wheel_tests, f"no wheel test installs {name}[{extra}]"
        return
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path}
    if command.startswith("curl ") and shutil.which("curl") is None:
        raise SkipTest("needs curl")
    if SERVED.partition("//")[2] in command:
        address = served(example).partition("//")[2]
        command = command.replace(SERVED.partition("//")[2], address)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip()
    example.namespace["printed"] = done.stdout


def requirements_of(commands: str) -> Iterable[str]:
    """List what lines of `pip install` name, without the options."""
    for line in commands.splitlines():
        pip, install, *rest = shlex.split(line)
        assert (pip, install) == ("pip", "install"), line
        yield from rest[: rest.index("--index-url")] if "--index-url" in rest else rest


SERVICE = "http://127.0.0.1:8765"
"""Where the pages' blocks believe a rerank service to be. Any free port takes its place, so that
several runs on one machine do not meet."""


SERVED = "http://localhost:8000"
"""Where they believe `jina-rerank serve` to be, which is one with the embedded model."""


def served(example: Example) -> str:
    """The address of a real service, which a page starts when it first needs it."""
    live = example.namespace.get("served")
    if live is None:
        live = example.namespace["served"] = LiveService().__enter__()
        until(lambda: live.engine.ready)
    assert isinstance(live, LiveService)
    return live.url


class PageEvaluator(PythonEvaluator):
    """Runs a block of Python against the page's own services, and keeps what it prints."""

    def __call__(self, example: Example) -> None:
        """Run it."""
        service, block = example.namespace["service"], example.parsed
        text = block.replace(SERVICE, service.url)
        if SERVED in text:
            text = text.replace(SERVED, served(example))
        example.parsed = Lexeme(text, block.offset, block.line_offset)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            super().__call__(example)
        example.namespace["printed"] = printed.getvalue().replace(service.url, SERVICE)


def find_outputs(document: Document) -> Iterable[Region]:
    """The output that a page shows for the block before."""
    for match in outputs(document.text):
        shown = match["fenced"] if match["plain"] is None else match["plain"]
        # Its comment only: a block within it is looked at by other parsers.
        end = document.text.index("-->", match.start())
        yield Region(match.start(), end, (shown, match["varies"]), compare_output)


def compare_output(example: Example) -> None:
    """Compare it with what was printed."""
    shown, varies = example.parsed
    check_same(shown, example.namespace["printed"], varies)


def find_requests(document: Document) -> Iterable[Region]:
    """A page's requests with their answers."""
    for block in FENCE.finditer(document.text):
        asked = REQUEST.match(block["text"].rstrip())
        if asked is not None:
            yield Region(block.start(), block.end(), asked, ask_service)


def ask_service(example: Example) -> None:
    """Send a request to a real service, and compare the answer."""
    asked = example.parsed
    reply = httpx.request(
        asked["method"],
        f"{served(example)}{asked['path']}",
        content=asked["body"],
        headers={"content-type": "application/json"},
        timeout=60,
    )
    check_same(asked["answer"], reply.text)


def setup_page(namespace: dict[str, object]) -> None:
    """Start the service that a page asks; give its classes a module to say that they are from."""
    namespace["__name__"] = "documentation"
    namespace["service"] = FaultServer().__enter__()
    os.environ["JINA_API_KEY"] = "jina_of_the_documentation"


def teardown_page(namespace: dict[str, object]) -> None:
    """Stop the services."""
    del os.environ["JINA_API_KEY"]
    service = namespace["service"]
    assert isinstance(service, FaultServer)
    service.__exit__(None, None, None)
    if (live := namespace.get("served")) is not None:
        assert isinstance(live, LiveService)
        live.__exit__(None, None, None)


pytest_collect_file = Sybil(
    parsers=[
        CodeBlockParser(language="python", evaluator=PageEvaluator()),
        CodeBlockParser(language="bash", evaluator=run_shell),
        find_outputs,
        find_requests,
    ],
    patterns=["README.md", "docs/*.md", "docs/reference/*.md", "integrations/*/README.md"],
    setup=setup_page,
    teardown=teardown_page,
).pytest()

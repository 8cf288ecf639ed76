"""Runs the code blocks of the README and of the documentation, a page at a time."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

# Before anything imports the framework: it would report that the tests ran.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

from faults import FaultServer
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser
from sybil.region import Lexeme

ROOT = Path(__file__).parent


def run_shell(example: Example) -> None:
    """Run a command line, and check an installation against what the wheel tests install."""
    command = example.parsed.strip()
    if command.startswith("pip install "):
        wheel_tests = (ROOT / "tests" / "test_wheels.py").read_text(encoding="utf-8")
        for requirement in shlex.split(command)[2:]:
            name, _, extras = requirement.rstrip("]").partition("[")
            assert name in wheel_tests, f"no wheel test installs {name}"
            for extra in filter(None, extras.split(",")):
                assert extra in wheel_tests, f"no wheel test installs {name}[{extra}]"
        return
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip()


SERVICE = "http://127.0.0.1:8765"
"""Where the pages' blocks believe a rerank service to be. Any free port takes its place, so that
several runs on one machine do not meet."""


class PageEvaluator(PythonEvaluator):
    """Runs a block of Python against the page's own service."""

    def __call__(self, example: Example) -> None:
        """Run it."""
        service, block = example.namespace["service"], example.parsed
        text = block.replace(SERVICE, service.url)
        example.parsed = Lexeme(text, block.offset, block.line_offset)
        super().__call__(example)


def setup_page(namespace: dict[str, object]) -> None:
    """Start the service that a page asks; give its classes a module to say that they are from."""
    namespace["__name__"] = "documentation"
    namespace["service"] = FaultServer().__enter__()
    os.environ["JINA_API_KEY"] = "jina_of_the_documentation"


def teardown_page(namespace: dict[str, object]) -> None:
    """Stop the service."""
    del os.environ["JINA_API_KEY"]
    service = namespace["service"]
    assert isinstance(service, FaultServer)
    service.__exit__(None, None, None)


pytest_collect_file = Sybil(
    parsers=[
        CodeBlockParser(language="python", evaluator=PageEvaluator()),
        CodeBlockParser(language="bash", evaluator=run_shell),
    ],
    patterns=["README.md", "docs/*.md", "integrations/*/README.md"],
    setup=setup_page,
    teardown=teardown_page,
).pytest()

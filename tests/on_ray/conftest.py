"""One Ray cluster on this machine for all of these tests, of several worker processes."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

# For this process and those that it starts, before Ray reads them: nothing is written to the home
# directory, nobody else on this machine may join, and nothing is reported.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

with warnings.catch_warnings(), suppress(ImportError):
    # Importing it warns of what it does with pydantic.
    warnings.simplefilter("ignore")
    import ray.data
    import ray.serve

TESTS = Path(__file__).parents[1]

# A process of its own holds the cluster, and its end is the cluster's: Ray leaves its child
# processes to the garbage collector, which would warn in whatever test runs then.
START = """
import sys, ray
context = ray.init(
    num_cpus=16,
    include_dashboard=False,
    object_store_memory=100_000_000,
    _temp_dir=sys.argv[1],
)
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """Its address. CPUs are what Ray counts and not what there are."""
    environment = {
        **os.environ,
        "JINA_RERANK_KEYS": "environment:key-in-the-environment",
        "PYTHONPATH": str(TESTS),
    }
    # Not pytest's own: addresses of sockets in it must be short.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    command = [sys.executable, "-W", "ignore", "-c", START, folder]
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        ) as process:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address
            ray.init(address, log_to_driver=False, configure_logging=False)
            yield address
            ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def port() -> int:
    """Where the service listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])

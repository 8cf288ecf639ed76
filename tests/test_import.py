"""The cost of importing the package, and its public names."""

import json
import subprocess
import sys

import jina_rerank

LOADED = "import sys, json; import jina_rerank; print(json.dumps(sorted(sys.modules)))"


def test_import_loads_neither_torch_nor_a_framework() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    heavy = {
        "torch",
        "transformers",
        "sentence_transformers",
        "tokenizers",
        "safetensors",
        "huggingface_hub",
        "numpy",
        "llama_index",
        "langchain_core",
        "haystack",
        "typer",
        "rich",
        "tqdm",
        "httpx",
        "anyio",
        "tenacity",
        "boto3",
        "botocore",
        "sqlite3",
    }
    assert not loaded & heavy


def test_everything_public_is_there_and_documented() -> None:
    for name in jina_rerank.__all__:
        assert getattr(jina_rerank, name).__doc__, name

"""Memory beside the documents themselves does not grow with their number."""

import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import write_checkpoint

GROWTH = """
import resource, sys
from jina_rerank import LocalScorer, Reranker
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
reranker = Reranker(LocalScorer(sys.argv[1], dtype="float32"))
document = "paris is the capital of france and coffee is brewed " * 3
reranker.rank("panda", [document] * 3_000, top_n=10)
before = peak()
reranker.rank("panda", [document] * 100_000, top_n=10)
print(peak() - before)
"""


@pytest.mark.slow
def test_100_000_documents_take_little_more_than_3_000(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, hidden_size=8, num_attention_heads=2, num_hidden_layers=1)
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    # The tokens of all pairs, as arrays, would be 30 MB, and as the tokenizer's objects 900 MB.
    # What remains is the columns of the answer and the order: some 200 bytes a document.
    assert float(done.stdout) < 40

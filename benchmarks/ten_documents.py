"""The top 10 of short chunks, the start of a process, and loading turbo."""

from __future__ import annotations

import mmap
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder

from jina_rerank import LocalScorer, Reranker
from jina_rerank.encoders import JinaBert

from .measuring import Contender, Result, Target, interleave
from .shapes import bert_config, save_jinabert, save_transformer
from .work import Texts, uniform_lengths

FIRST_RANKING = """
from jina_rerank import LocalScorer, Reranker
Reranker(LocalScorer()).rank("how do I store beans?", ["Keep them in a jar.", "Grind them fine."])
"""

START = "a process from its start to the first ranking, embedded model"
LOADING = "loading turbo's weights"
READING = "reading turbo's file and touching each page"
IMPORTING = "import jina_rerank"
BARE = "import httpx"


def measure(rounds: int, *, quick: bool) -> Result:
    """Everything that happens before and in a small call.

    Args:
        rounds: Rounds that count.
        quick: Fewer rounds.
    """
    rounds = 3 if quick else max(rounds, 9)
    lengths = uniform_lengths(10, 40, 80)
    query, documents = Texts().pairs(lengths)
    pairs = [(query, document) for document in documents]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        turbo = save_jinabert(folder / "turbo")
        bert = str(save_transformer(folder / "bert", bert_config(6)))
        contenders: dict[str, Contender] = {}
        for dtype in ("float32", "bfloat16"):
            theirs = CrossEncoder(bert, device="cpu", model_kwargs={"dtype": dtype})
            contenders[f"sentence-transformers, {dtype}"] = partial(
                theirs.predict, pairs, show_progress_bar=False
            )
            reranker = Reranker(LocalScorer(turbo, dtype=dtype))
            reranker.warm_up()
            contenders[f"jina-rerank, {dtype}"] = partial(reranker.rank, query, documents)
        contenders[READING] = partial(read, turbo / "model.safetensors")
        contenders[LOADING] = partial(JinaBert.from_pretrained, turbo, dtype=torch.float32)
        contenders[START] = partial(run_python, FIRST_RANKING)
        contenders[IMPORTING] = partial(run_python, "import httpx, jina_rerank")
        contenders[BARE] = partial(run_python, "import httpx")
        result = Result("ten_documents", f"10 chunks of 40 to 80 tokens, {sum(lengths):,} tokens")
        result.seconds = interleave(contenders, rounds)
    added = result.median(IMPORTING) - result.median(BARE)
    result.figures["ms that import jina_rerank adds to import httpx"] = 1000 * added
    ours = result.median("jina-rerank, bfloat16")
    result.targets = [
        Target(
            "times as fast as sentence-transformers' default",
            3,
            result.median("sentence-transformers, float32") / ours,
        ),
        Target(
            "times as fast as sentence-transformers in bfloat16",
            1,
            result.median("sentence-transformers, bfloat16") / ours,
        ),
        Target("seconds to the first ranking", 2, result.median(START), at_least=False),
        Target(
            "times reading the file",
            1.3,
            result.median(LOADING) / result.median(READING),
            at_least=False,
        ),
    ]
    return result


def read(path: Path) -> int:
    """Copy a file into memory and look at every page of the copy.

    Args:
        path: The file.
    """
    content = path.read_bytes()
    return sum(content[:: mmap.PAGESIZE])


def run_python(program: str) -> float:
    """Run a program in a fresh process.

    Args:
        program: Its text.
    """
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - started

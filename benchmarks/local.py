"""How fast and how large the local scorer is, beside sentence-transformers on the same shape.

    python benchmarks/local.py [--rounds N]

One query against 50 real answers of coffee.stackexchange.com, by the embedded model and by a
BERT with random weights of the same shape (6 layers, hidden 384, intermediate 1,536, the same
vocabulary) in sentence-transformers' CrossEncoder with its own defaults. All tokenize the text
themselves. Interleaved rounds, medians: compare the ratios, not the seconds.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import transformers
from first_stage import COFFEE, bm25_candidates
from sentence_transformers import CrossEncoder

from jina_rerank import LocalScorer, Reranker
from jina_rerank.jinabert import JinaBert, JinaBertConfig
from jina_rerank.scorers.local import embedded_model_folder


def main() -> None:
    """Print the medians of the interleaved rounds, then the peak for 8,192 tokens."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads,")
    print(f"torch {torch.__version__}, sentence-transformers and transformers as installed\n")
    print(
        f"peak above the weights for one pair of 8,192 tokens: {peak_of_8192():.0f} MB (float32)\n"
    )

    print(f"import jina_rerank: {import_cost():.0f} ms more than a process that imports httpx\n")
    candidates = bm25_candidates(COFFEE, depth=50)
    query_id, found = next(iter(candidates.found.items()))
    query, documents = candidates.queries[query_id], [candidates.documents[d] for d in found]
    with tempfile.TemporaryDirectory() as folder:
        save_bert(Path(folder))
        pairs = [(query, document) for document in documents]
        contenders: dict[str, Callable[[], object]] = {}
        for dtype in ("float32", "bfloat16"):
            ours = Reranker(LocalScorer(dtype=dtype, max_length=512))
            theirs = CrossEncoder(folder, device="cpu", model_kwargs={"dtype": dtype})
            contenders[f"jina-rerank, {dtype}"] = partial(ours.rank, query, documents)
            contenders[f"sentence-transformers, {dtype}"] = partial(theirs.predict, pairs)
        tokens = ours.rank(query, documents).usage.tokens
        times = measure(contenders, args.rounds)
    print(f"one query, {len(documents)} documents, {tokens:,} tokens; seconds, median of rounds")
    fastest = min(times.values())
    for name, seconds in times.items():
        print(
            f"{name:32} {seconds:7.3f}  {seconds / fastest:5.1f}x"
            f"  {len(documents) / seconds:6.0f} documents/s"
        )


def measure(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Each contender once a round, in turn; the median of each."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(rounds + 1):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            if round_number:  # the first one warms up
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def save_bert(folder: Path) -> None:
    """A BERT cross-encoder of the embedded model's shape, with random weights."""
    config = JinaBertConfig.from_file(embedded_model_folder() / "config.json")
    bert = transformers.BertConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
    )
    bert.num_labels = 1
    transformers.BertForSequenceClassification(bert).save_pretrained(folder)
    tokenizer = transformers.PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=str(embedded_model_folder() / "tokenizer.json"),
        model_max_length=512,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
    )
    tokenizer.save_pretrained(folder)


def import_cost(rounds: int = 9) -> float:
    """Milliseconds, the median over fresh processes in turn, that importing the core adds."""
    times: dict[str, list[float]] = {"import httpx": [], "import httpx, jina_rerank": []}
    for _ in range(rounds):
        for statement, seconds in times.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            seconds.append(time.perf_counter() - started)
    bare, ours = (statistics.median(seconds) for seconds in times.values())
    return 1000 * (ours - bare)


def peak_of_8192() -> float:
    """Megabytes that one pair of 8,192 tokens adds to the process's peak, turbo's shape."""
    model = JinaBert(JinaBertConfig()).eval()
    with torch.inference_mode():
        model(torch.ones(1, 64, dtype=torch.long))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        model(torch.ones(1, 8192, dtype=torch.long))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


if __name__ == "__main__":
    main()

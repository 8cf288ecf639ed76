"""10,000 pairs on a CUDA device: the experimental path beside sentence-transformers; a roofline.

Has not been run on a GPU yet: nobody had one while it was written.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder

from jina_rerank import LocalScorer, Reranker
from jina_rerank.encoders import pack
from jina_rerank.encoders.gpu import BATCH_TOKENS, GpuEngine

from .measuring import Contender, Result, Target, interleave
from .shapes import TURBO, bert_config, model_of, save_jinabert, save_transformer
from .work import Texts, chunk_lengths

OURS = "jina-rerank, bfloat16"
OURS_FROM_TEXT = "jina-rerank, bfloat16, from text"
THEIRS = "sentence-transformers, bfloat16, from text"


def measure(rounds: int, *, quick: bool) -> Result:
    """Both, interleaved, and what the device could do.

    Args:
        rounds: Rounds that count.
        quick: A tenth of the pairs.
    """
    if not torch.cuda.is_available():
        raise SystemExit("this workload needs a CUDA device")
    lengths = chunk_lengths(1000 if quick else 10_000)
    query, documents = Texts().pairs(lengths)
    pairs = [(query, document) for document in documents]
    engine = GpuEngine(model_of(TURBO, torch.bfloat16).cuda())
    if engine.batch_tokens != BATCH_TOKENS:
        raise SystemExit("the compiled attention cannot be used here: see the warning")

    def ours() -> None:
        with torch.inference_mode():
            for group in pack(lengths, engine.batch_tokens):
                batch = [lengths[i] for i in group]
                engine(torch.ones(sum(batch), dtype=torch.int32, device="cuda"), batch)
        torch.cuda.synchronize()

    with tempfile.TemporaryDirectory() as folder:
        bert = str(save_transformer(Path(folder) / "bert", bert_config(6)))
        theirs = CrossEncoder(bert, device="cuda", model_kwargs={"dtype": "bfloat16"})
        turbo = save_jinabert(Path(folder) / "turbo")
        scorer = LocalScorer(turbo, device="cuda", dtype="bfloat16", max_length=512)
        contenders: dict[str, Contender] = {
            OURS: ours,
            OURS_FROM_TEXT: partial(Reranker(scorer).rank, query, documents),
            THEIRS: partial(theirs.predict, pairs, batch_size=256, show_progress_bar=False),
        }
        result = Result("gpu", f"{len(lengths):,} pairs, {sum(lengths):,} tokens, turbo's shape")
        result.seconds = interleave(contenders, rounds)
    rate, bandwidth = matrix_rate(), memory_bandwidth()
    operations, moved = counted(lengths)
    bound = max(operations / rate, moved / bandwidth)
    result.figures = {
        "device": torch.cuda.get_device_name(),
        "measured matrix rate, operations a second": rate,
        "measured bandwidth, bytes a second": bandwidth,
        "operations counted": operations,
        "bytes counted, each activation written and read once": moved,
        "seconds at the roofline": bound,
    }
    result.targets = [
        Target(
            "times sentence-transformers",
            5,
            result.median(THEIRS) / result.median(OURS_FROM_TEXT),
        ),
        Target("of the roofline", 0.3, bound / result.median(OURS)),
    ]
    return result


def counted(lengths: list[int]) -> tuple[float, float]:
    """Operations and bytes of all layers.

    Args:
        lengths: Tokens of the pairs.
    """
    hidden, middle, layers = TURBO.hidden_size, TURBO.intermediate_size, TURBO.num_hidden_layers
    tokens, squares = sum(lengths), sum(length * length for length in lengths)
    linear = 2 * tokens * (4 * hidden * hidden + 3 * hidden * middle)
    attention = 4 * squares * hidden
    # Each in and out once: queries, keys, values, context, two residuals, gate, value, product.
    activations = 2 * 2 * tokens * (6 * hidden + 3 * middle)
    return float(layers * (linear + attention)), float(layers * activations)


def matrix_rate() -> float:
    """Operations a second of a large bfloat16 product."""
    size, times = 8192, 20
    a = torch.randn(size, size, dtype=torch.bfloat16, device="cuda")
    return times * 2 * size**3 / _seconds(lambda: a @ a, times)


def memory_bandwidth() -> float:
    """Bytes a second of a large copy, reading and writing counted."""
    times = 20
    a = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    b = torch.empty_like(a)
    return times * 2 * a.numel() / _seconds(lambda: b.copy_(a), times)


def _seconds(run: Contender, times: int) -> float:
    run()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(times):
        run()
    torch.cuda.synchronize()
    return time.perf_counter() - started

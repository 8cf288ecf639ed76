"""`python -m benchmarks WORKLOAD ... [--rounds N] [--quick]`: measure, print, keep in results/."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

CAPPED = {
    "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI",
    "MKL_ENABLE_INSTRUCTIONS": "AVX512",
}
"""As if the processor had no bf16 and no matrix units."""

WORKLOADS = {
    "chunks": "100 chunks, beside every rival and the floor of the matrix products",
    "long_documents": "long documents: 16 of 1,000 to 2,000 tokens, and one of 8,192",
    "ten_documents": "10 short chunks, the start of a process, and loading",
    "concurrent_calls": "32 concurrent calls beside one call of many",
    "document_counts": "10 to 10,000 documents",
    "without_bfloat16": "100 chunks on a capped instruction set: float32 and int8",
    "embedded_model": "the embedded model beside turbo's shape, pairs of 60 to 8,000 tokens",
    "precision": "rankings in bfloat16 and int8 beside float32's, on real collections",
    "announcement": "pairs a second for the shapes of the announcement's models",
    "families": "ms-marco-MiniLM's, Ettin's, bge's and gte's shapes, beside every rival",
    "gpu": "10,000 pairs on a CUDA device beside sentence-transformers",
    "report": "write tables and plots from results/ into the documentation",
}


def main() -> None:
    """Run what was asked for, each in a process of its own."""
    listing = "\n".join(f"  {name:14}{text}" for name, text in WORKLOADS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"{__doc__}\n\n{listing}",
    )
    parser.add_argument("workloads", nargs="+", choices=WORKLOADS, metavar="WORKLOAD")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (default 5)")
    parser.add_argument("--quick", action="store_true", help="less of everything, into no file")
    parser.add_argument(
        "--collection",
        action="append",
        default=[],
        type=Path,
        metavar="FOLDER",
        help="for precision: a collection in place of coffee; repeat for several",
    )
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    for workload in args.workloads:
        if args.here:
            run(workload, args.rounds, next(iter(args.collection), None), quick=args.quick)
            continue
        environment = {
            **os.environ,
            **(CAPPED if workload == "without_bfloat16" else {}),
            "HF_HUB_OFFLINE": "1",
        }
        command = [sys.executable, "-m", "benchmarks", workload, "--here"]
        command += [f"--rounds={args.rounds}", *(["--quick"] if args.quick else [])]
        folders = args.collection if workload == "precision" else []
        # A collection takes half an hour, and its result is kept although the next one fails.
        for more in [[f"--collection={folder}"] for folder in folders] or [[]]:
            done = subprocess.run([*command, *more], check=False, env=environment)
            if done.returncode:
                sys.exit(done.returncode)  # it has said why


def run(workload: str, rounds: int, folder: Path | None, *, quick: bool) -> None:
    """Run one of them in this process.

    Args:
        workload: Its name.
        rounds: Rounds that count.
        folder: For precision: a collection; None for coffee.
        quick: Whether to do less.
    """
    from importlib import import_module

    module = import_module(f".{workload}", __package__)
    if workload == "report":
        module.write()
    else:
        more = {"folder": folder} if workload == "precision" else {}
        module.measure(rounds, quick=quick, **more).finish(keep=not quick)


if __name__ == "__main__":
    main()

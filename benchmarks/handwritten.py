"""The server that people write by hand: FastAPI around sentence-transformers' CrossEncoder.

    MODEL=folder DTYPE=bfloat16 uvicorn benchmarks.handwritten:app

An endpoint that is no coroutine, so that it runs in a thread and blocks nobody; batches of 32, each
call its own, as `CrossEncoder.rank` makes them.
"""

from __future__ import annotations

import os

import torch
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import CrossEncoder

app = FastAPI()
model = CrossEncoder(
    os.environ["MODEL"],
    device="cpu",
    model_kwargs={"dtype": getattr(torch, os.environ.get("DTYPE", "float32"))},
)


class Asked(BaseModel):
    """A request."""

    query: str
    documents: list[str]


@app.post("/rerank")
def rerank(asked: Asked) -> list[dict[str, float]]:
    """The documents' places and scores, best first."""
    ranked = model.rank(asked.query, asked.documents, batch_size=32)
    return [{"index": hit["corpus_id"], "score": float(hit["score"])} for hit in ranked]

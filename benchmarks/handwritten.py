"""The server that people write by hand: FastAPI around sentence-transformers' CrossEncoder.

    MODEL=folder DTYPE=bfloat16 uvicorn benchmarks.handwritten:app

In two ways: an endpoint that is no coroutine, so that each call has a thread and blocks nobody, and
a coroutine that blocks all others while it computes. Batches of 32, each call its own, as
`CrossEncoder.rank` makes them.
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


@app.post("/rerank/in-turn")
async def rerank_in_turn(asked: Asked) -> list[dict[str, float]]:
    """The documents' places and scores, best first; one call at a time."""
    return rerank(asked)


@app.post("/rerank")
def rerank(asked: Asked) -> list[dict[str, float]]:
    """The documents' places and scores, best first; as many calls at once as there are."""
    ranked = model.rank(asked.query, asked.documents, batch_size=32)
    return [{"index": hit["corpus_id"], "score": float(hit["score"])} for hit in ranked]

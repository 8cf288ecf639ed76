"""Documents that do not fit are cut, chunked or refused, and always reported."""

import logging
from array import array
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from jina_rerank import InputError, LocalScorer, Reranker
from jina_rerank.encoders import JinaBert, PairTokenizer
from jina_rerank.scorers.base import LongDocuments

MAX_LENGTH = 40
QUERY = "what is panda?"
WORDS = [
    "panda",
    "bear",
    "paris",
    "france",
    "coffee",
    "espresso",
    "beans",
    "capital",
    "germany",
    "berlin",
]


@pytest.fixture(scope="module")
def plain(small_checkpoint: Path) -> Tokenizer:
    return Tokenizer.from_file(str(small_checkpoint / "tokenizer.json"))


def reranker(folder: Path, long_documents: LongDocuments, max_length: int = MAX_LENGTH) -> Reranker:
    scorer = LocalScorer(
        folder, dtype="float32", max_length=max_length, long_documents=long_documents
    )
    return Reranker(scorer)


def tokens(plain: Tokenizer, text: str) -> int:
    return len(plain.encode(text, add_special_tokens=False).ids)


long_texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=120).map(" ".join)


@given(document=long_texts)
def test_truncate_reads_the_beginning_and_reports_the_rest(
    small_checkpoint: Path, plain: Tokenizer, document: str
) -> None:
    (hit,) = reranker(small_checkpoint, "truncate").rank(QUERY, [document])
    room = MAX_LENGTH - 4 - tokens(plain, QUERY)
    total = tokens(plain, document)
    assert (hit.tokens, hit.truncated_tokens) == (min(total, room), max(0, total - room))


def test_what_is_cut_is_the_end_of_the_document(small_checkpoint: Path, plain: Tokenizer) -> None:
    cut = reranker(small_checkpoint, "truncate")
    document = " ".join(WORDS * 5)
    (hit,) = cut.rank(QUERY, [document])
    ids = plain.encode(document, add_special_tokens=False).ids[: hit.tokens]
    beginning = plain.decode(ids)
    assert tokens(plain, beginning) == hit.tokens
    (whole,) = reranker(small_checkpoint, "error").rank(QUERY, [beginning])
    assert hit.logit == pytest.approx(whole.logit, abs=1e-6)
    assert cut.rank(QUERY, [document]).usage.truncated_documents == 1


def test_chunk_takes_the_best_of_windows_that_cover_everything(
    small_checkpoint: Path, plain: Tokenizer
) -> None:
    document = " ".join(WORDS * 9)
    ranking = reranker(small_checkpoint, "chunk").rank(QUERY, [document])
    room = MAX_LENGTH - 4 - tokens(plain, QUERY)
    ids = plain.encode(document, add_special_tokens=False).ids
    step = room - room // 4
    starts = [*range(0, len(ids) - room, step), len(ids) - room]
    covered = {position for start in starts for position in range(start, start + room)}
    assert covered == set(range(len(ids)))
    tokenizer = PairTokenizer(Tokenizer.from_str(plain.to_str()))
    query = tokenizer.encode([QUERY])[0]
    windows = [tokenizer.pair(query, array("i", ids[start : start + room])) for start in starts]
    model = JinaBert.from_pretrained(small_checkpoint)
    logits = model(torch.tensor([list(window.input_ids) for window in windows]))
    assert ranking[0].logit == pytest.approx(logits.max().item(), abs=1e-5)
    assert (ranking[0].tokens, ranking[0].truncated_tokens) == (len(ids), 0)
    assert ranking.usage.tokens == sum(map(len, windows))
    assert ranking.usage.truncated_documents == 0


@given(documents=st.lists(long_texts, min_size=1, max_size=6))
def test_chunk_is_as_truncate_for_what_fits_and_never_worse(
    small_checkpoint: Path, documents: list[str]
) -> None:
    chunked = reranker(small_checkpoint, "chunk").score(QUERY, documents)
    cut = reranker(small_checkpoint, "truncate").rank(QUERY, documents)
    for hit in cut:
        if hit.truncated_tokens:
            assert chunked[hit.index] >= hit.score - 1e-6
        else:
            assert chunked[hit.index] == pytest.approx(hit.score, abs=1e-6)


async def test_error_names_the_document(small_checkpoint: Path) -> None:
    strict = reranker(small_checkpoint, "error")
    documents = ["short", " ".join(WORDS * 9)]
    with pytest.raises(InputError, match=r"tokens and \d+ fit.*long_documents=") as caught:
        strict.rank(QUERY, documents)
    assert caught.value.argument == "documents[1]"
    with pytest.raises(InputError, match=r"^pairs\[1\]\.documents\[1\]"):
        await strict.arank_many([(QUERY, ["a"]), (QUERY, documents)])
    assert len(strict.rank(QUERY, documents[:1])) == 1


def test_the_query_keeps_up_to_half(
    small_checkpoint: Path, plain: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    query = " ".join(WORDS * 9)
    half = (MAX_LENGTH - 4) // 2
    with caplog.at_level(logging.WARNING, "jina_rerank"):
        ranking = reranker(small_checkpoint, "truncate").rank(query, ["panda " * 60])
    assert ranking[0].tokens == half
    assert ranking.usage.truncated_query_tokens == tokens(plain, query) - half
    assert "its share of 40 is 18" in caplog.text
    with pytest.raises(InputError, match=r"^query.*shorten it"):
        reranker(small_checkpoint, "error").rank(query, ["a"])


def test_the_models_own_limit_applies(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, max_position_embeddings=32)
    (hit,) = reranker(folder, "truncate", max_length=8192).rank("panda", ["bear " * 100])
    assert hit.truncated_tokens is not None
    assert hit.truncated_tokens > 60

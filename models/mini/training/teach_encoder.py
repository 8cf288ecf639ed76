"""Teach a small sentence encoder the similarities that a larger one sees.

    python models/mini/training/teach_encoder.py ENCODER TEACHER OUTPUT PAIRS [PAIRS ...]

trains ENCODER, a BERT with mean pooling, on queries and passages, and writes OUTPUT/model. Each of
PAIRS is a source: JSON Lines with query and passage. Both encoders embed the texts of a batch, and
the small one learns the distribution of the larger one's cosines: of each query over all passages,
of each passage over all queries, and of each passage over the other passages. A passage is thus
compared with all texts of its batch, where a cross-encoder compares it with one query. That is why
the encoder learns before it becomes a cross-encoder, and not after.

The teacher's vectors, OUTPUT/teacher.npz, are computed once. The training resumes where it was
stopped, see `Trainer`.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BertModel

from jina_rerank.distillation.data.pairs import TrainingPair, read_pairs
from jina_rerank.distillation.training.forward import TrainingBatch
from jina_rerank.distillation.training.trainer import Trainer, TrainingSettings
from jina_rerank.encoders.tokenizer import TokenPair

OF_A_SOURCE = 110
MORE_OF = {
    "debian-descriptions": 400,
    "factbook": 350,
    "foldoc": 300,
    "gene-ontology": 300,
    "nq-oracle": 2200,
    "se-ai": 700,
    "se-beer": 1300,
    "se-quantum": 900,
    "wikipedia": 3000,
}
"""Most pairs of a source: of documentation there is more than enough, of real questions too few."""

LONGEST_QUERY, LONGEST_PASSAGE = 64, 128
"""Tokens to which texts are truncated, for both encoders."""

PAIRS = 48
"""Pairs of a batch; half of them are of one source, whose passages are hard negatives."""

TEMPERATURE = 0.05
"""Temperature of both encoders' cosines, with which they were trained (scale 20)."""

AMONG_PASSAGES = 0.5
"""Weight of the similarities of passages to one another."""

LABELS = 0.1
"""Weight of the cross-entropy of the labelled passages."""


def main() -> None:
    """Embed the texts with the teacher, train, and write the encoder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("pairs", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    given = parser.parse_args()
    pairs = chosen_pairs(given.pairs)
    given.output.mkdir(parents=True, exist_ok=True)
    queries, passages = teacher_vectors(given.teacher, pairs, given.output / "teacher.npz")
    model = BertModel.from_pretrained(given.encoder)
    model.eval()
    tokenizer = Tokenizer.from_file(str(given.encoder / "tokenizer.json"))
    settings = TrainingSettings(
        steps=given.steps,
        learning_rate=given.learning_rate,
        warm_up=15,
        decay=given.steps,
        save_every=50,
    )
    objective = Similarities(pairs, queries, passages, tokenizer)
    Trainer(model, objective, settings, given.output / "training").run(progress=True)
    shutil.copytree(given.encoder, given.output / "model", dirs_exist_ok=True)
    model.save_pretrained(given.output / "model")


def chosen_pairs(paths: Sequence[Path]) -> list[TrainingPair]:
    """Read some pairs of each source, in an order that depends on nothing but the files."""
    chance = random.Random(5)
    chosen: list[TrainingPair] = []
    for path in sorted(paths):
        pairs = list(read_pairs(path))
        chance.shuffle(pairs)
        chosen += pairs[: MORE_OF.get(path.stem, OF_A_SOURCE)]
    return [pair for pair in chosen if not is_to_choose_by(pair)]


def is_to_choose_by(pair: TrainingPair) -> bool:
    """Tell whether models are compared on a question; then it is not trained on."""
    digest = hashlib.sha256(pair.query.encode()).digest()
    return pair.source == "nq-oracle" and int.from_bytes(digest) % 5 == 1


def teacher_vectors(
    teacher: Path, pairs: Sequence[TrainingPair], path: Path
) -> tuple[Tensor, Tensor]:
    """Compute the teacher's vectors of all queries and passages, or read them from a file."""
    if not path.is_file():
        model = SentenceTransformer(str(teacher), model_kwargs={"dtype": torch.bfloat16})
        vectors = {}
        for name, longest in (("query", LONGEST_QUERY), ("passage", LONGEST_PASSAGE)):
            model.max_seq_length = longest
            vectors[name] = model.encode(
                [getattr(pair, name) for pair in pairs],
                normalize_embeddings=True,
                show_progress_bar=True,
            ).astype(np.float16)
        np.savez(path, **vectors)
    with np.load(path) as found:
        return (
            torch.from_numpy(found["query"]).float(),
            torch.from_numpy(found["passage"]).float(),
        )


@dataclass(frozen=True)
class Texts:
    """Queries and passages of a batch: the queries first.

    Attributes:
        batch: The texts.
        queries: Number of queries.
        wanted_queries: The teacher's vectors of the queries.
        wanted_passages: The teacher's vectors of the passages.
        part: The fraction of the step's pairs that these are.
    """

    batch: TrainingBatch
    queries: int
    wanted_queries: Tensor
    wanted_passages: Tensor
    part: float


class Similarities:
    """Objective: the teacher's distribution of cosines in a batch.

    Args:
        pairs: All pairs.
        queries: The teacher's vectors of their queries, of length 1.
        passages: The teacher's vectors of their passages, of length 1.
        tokenizer: The student's tokenizer.
    """

    def __init__(
        self,
        pairs: Sequence[TrainingPair],
        queries: Tensor,
        passages: Tensor,
        tokenizer: Tokenizer,
    ) -> None:
        self._wanted = queries, passages
        self._queries = tokens_of(tokenizer, [pair.query for pair in pairs], LONGEST_QUERY)
        self._passages = tokens_of(tokenizer, [pair.passage for pair in pairs], LONGEST_PASSAGE)
        self._sources: dict[str, list[int]] = {}
        for place, pair in enumerate(pairs):
            self._sources.setdefault(pair.source, []).append(place)

    def micro_batches(self, step: int, parts: int) -> list[Texts]:
        """See `Objective`."""
        chance = random.Random(f"similarities-{step}")
        return [self._draw(chance, 1 / parts) for _ in range(parts)]

    def _draw(self, chance: random.Random, part: float) -> Texts:
        names, sizes = list(self._sources), list(map(len, self._sources.values()))
        (name,) = chance.choices(names, sizes)
        alike = self._sources[name]
        chosen = chance.sample(alike, min(PAIRS // 2, len(alike)))
        others = chance.sample(range(len(self._queries)), PAIRS)
        chosen += [place for place in others if place not in chosen][: PAIRS - len(chosen)]
        texts = [self._queries[place] for place in chosen]
        texts += [self._passages[place] for place in chosen]
        queries, passages = (vectors[chosen] for vectors in self._wanted)
        return Texts(TrainingBatch.of(texts), len(chosen), queries, passages, part)

    def loss(self, model: BertModel, batch: Texts) -> tuple[Tensor, Mapping[str, float]]:
        """See `Objective`."""
        vectors = embed(model, batch.batch)
        queries, passages = vectors[: batch.queries], vectors[batch.queries :]
        given, wanted = queries @ passages.T, batch.wanted_queries @ batch.wanted_passages.T
        loss = divergence(given, wanted) + divergence(given.T, wanted.T)
        same = torch.eye(len(passages), dtype=torch.bool)
        among, wanted_among = (
            (own @ own.T).masked_fill(same, -1.0) for own in (passages, batch.wanted_passages)
        )
        loss = loss + AMONG_PASSAGES * divergence(among, wanted_among)
        figures = {"divergence": batch.part * float(loss.detach()), "tokens": batch.batch.tokens}
        labels = torch.arange(len(given))
        loss = loss + LABELS * F.cross_entropy(given / TEMPERATURE, labels)
        return batch.part * loss, figures


def divergence(given: Tensor, wanted: Tensor) -> Tensor:
    """Compute the Kullback-Leibler divergence of two distributions of cosines, row by row."""
    return F.kl_div(
        F.log_softmax(given / TEMPERATURE, dim=1),
        F.softmax(wanted / TEMPERATURE, dim=1),
        reduction="batchmean",
    )


def embed(model: BertModel, batch: TrainingBatch) -> Tensor:
    """Compute the mean of each text's last hidden states, of length 1, shape (texts, hidden)."""
    vectors, order = [], []
    for group in batch.groups:
        states = model(batch.input_ids[group.rows], attention_mask=group.mask.long())
        mask = group.mask[..., None]
        sums = (states.last_hidden_state.float() * mask).sum(1)
        vectors.append(F.normalize(sums / mask.sum(1), dim=1))
        order.append(torch.searchsorted(batch.first, group.rows[:, 0].contiguous()))
    return torch.cat(vectors)[torch.cat(order).argsort()]


def tokens_of(tokenizer: Tokenizer, texts: Sequence[str], longest: int) -> list[TokenPair]:
    """Tokenize texts, each between special tokens."""
    reading = Tokenizer.from_str(tokenizer.to_str())
    reading.no_padding()
    reading.enable_truncation(longest)
    found = (array("i", one.ids) for one in reading.encode_batch(list(texts)))
    return [TokenPair(ids, array("i", [0]) * len(ids)) for ids in found]


if __name__ == "__main__":
    main()

"""The layer on top of a widened encoder, which begins by comparing what it makes of two texts.

Its attention gathers: some heads of [CLS] look at the query and others at the passage, each as if
at all of its tokens alike, but for ALiBi, which makes near ones count more; so the passage gets the
heads that look farthest. What they bring are the mean vectors, along the directions in which such
vectors differ most.

Its feed-forward multiplies. For each direction there are four units. With q and p the elements of
the two vectors, made small, they give

    gelu(q+p) + gelu(-q-p) - gelu(q-p) - gelu(p-q)
      = sqrt(2/pi) ((q+p)^2 - (q-p)^2)
      = sqrt(32/pi) q p

since gelu(z) + gelu(-z) = z erf(z / sqrt(2)), which is sqrt(2/pi) z^2 but for a part of z^2/6 of
it. The sum over directions, for the mean vectors of a sentence encoder nearly their cosine, is the
logit, and beside it what words the texts share, which one more head brings (see `widening`).

To learn a product of vectors from rankings takes as many of them as a matrix has elements; here
training only has to make it better.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from ..encoders import JinaBert, JinaBertConfig
from ..encoders.alibi import Slopes
from ..encoders.tokenizer import TokenPair
from ..errors import ModelLoadError
from .conversion import BertEncoder, built, converting, read_tokenizer
from .fitting import fit_layers
from .forward import TrainingBatch, hidden_states
from .imitation import Original
from .observation import observe
from .widening import (
    APART,
    LEVEL,
    SMALLEST_HEAD,
    SURE,
    Channel,
    State,
    by_gentleness,
    code_elements,
    widened,
)
from .words import words_of

REACH = 10.0
"""The amount that a product of 1 adds to an element of the state, in standard deviations of the
others: far above their noise, and so little that the norm behind hardly gets longer."""

SMALLNESS = 0.2
"""By what q and p are multiplied: they are about 1, and so what is missing of their product is one
or two hundredths. With less of them there would be little beside what rounding takes."""

STEEPNESS = 20.0
"""The logit of a product of 1: cosines in a list of candidates differ by tenths."""

MIDDLE = 0.3
"""The product whose logit is 0: cosines of a question and its answer are above it mostly."""

SHARED = 0.05
"""Weight of all the query's words, found in the passage, beside a product of 1. What is found is
noisy: the student of all-MiniLM-L6-v2 ranks best with so little, before it is taught to rank."""

WINDOW = 256
"""Reach of a head, in pairs of more than 512 tokens. Sentence encoders are trained on texts no
longer than that; attention in long ones would take most of the time."""

FEWEST_HEADS = 3
"""The fewest heads of a model: one for each text, and one for the words."""

EXAMPLE_TOKENS = 128
"""Where examples are cut when the encoder is watched."""

LOUDNESS = 4.0
"""Factor by which what is gathered grows, so that what else [CLS] holds is drowned."""


def convert_to_compare(
    source: Path,
    examples: Sequence[tuple[str, str]],
    *,
    slopes: Slopes = "faint",
    intermediate_size: int | None = None,
    seed: int = 0,
) -> tuple[JinaBert, Tokenizer]:
    """A reranker that holds a sentence encoder and compares, to be trained.

    Args:
        source: The encoder's folder, as for `convert_bert`.
        examples: Queries and passages, 1,500 or so, to watch the encoder on and to fit the layers
            to it, see `fit_layers`.
        slopes: Which ALiBi slopes the reranker is to have, see `alibi_slopes`.
        intermediate_size: How many units of each feed-forward to keep, those without which the
            others do worst on the examples; None for all.
        seed: Seed of what is random.

    Returns:
        As `convert_bert`. The model has a head more than the encoder, and a layer.

    Raises:
        ModelLoadError: As `convert_bert`, or as `shape_to_compare`.
    """
    bert = BertEncoder.read(source)
    config = shape_to_compare(bert, slopes, intermediate_size)
    tokenizer = read_tokenizer(source)
    reading = Tokenizer.from_str(tokenizer.to_str())
    reading.enable_truncation(EXAMPLE_TOKENS)
    texts = reading.encode_batch(
        [text for column in zip(*examples, strict=True) for text in column]
    )
    generator = torch.Generator().manual_seed(seed)
    with converting(source):
        observed = observe(source, texts)
        words = words_of(
            texts[len(examples) :],
            tokenizer,
            config.vocab_size,
            code_elements(config),
            generator,
        )
        everything = shape_to_compare(bert, slopes).intermediate_size
        layers = config.num_hidden_layers - 1
        body = JinaBert(replace(config, num_hidden_layers=layers, intermediate_size=everything))
        body.load_state_dict(
            widened(bert.weights, body.config, observed, words, generator), strict=False
        )
        fit_layers(
            body,
            tokenizer,
            Original(source, dtype=torch.float32),
            examples,
            units=None if config.intermediate_size == everything else config.intermediate_size,
            seed=seed,
        )
        state = {
            name: weight
            for name, weight in body.state_dict().items()
            if not name.startswith(("bert.pooler.", "classifier."))
        }
        queries, passages = observed.means[: len(examples)], observed.means[len(examples) :]
        model = built(config, state | comparing(config, queries, passages, generator))
    settle(model, tokenizer)
    return model, tokenizer


def shape_to_compare(
    bert: BertEncoder, slopes: Slopes = "faint", intermediate_size: int | None = None
) -> JinaBertConfig:
    """The shape of the reranker that `convert_to_compare` makes of an encoder.

    Raises:
        ModelLoadError: The encoder's heads are too few or too small, its units too few, or its
            activation another one.
    """
    config = bert.reranker(slopes, intermediate_size, wider=1, feed_forward="original")
    if (activation := bert.config["hidden_act"]) != "gelu":
        raise ModelLoadError(
            f"{bert.folder}: a student that compares needs an encoder with hidden_act 'gelu', "
            f"not {activation!r}"
        )
    size = config.hidden_size // config.num_attention_heads
    if size < SMALLEST_HEAD or config.num_attention_heads < FEWEST_HEADS:
        raise ModelLoadError(
            f"{bert.folder}: a student that compares needs an encoder with {FEWEST_HEADS - 1} "
            f"heads of {SMALLEST_HEAD} elements or more, not {config.num_attention_heads - 1} of "
            f"{size}"
        )
    with converting(bert.folder):
        positions = len(bert.weights["embeddings.position_embeddings.weight"])
    return replace(
        config,
        type_vocab_size=2,
        # Of a passage; [CLS], which has the first, is part of the query's run.
        text_positions=positions - 1,
        attention_window=WINDOW,
        num_hidden_layers=config.num_hidden_layers + 1,
    )


@torch.no_grad()
def settle(model: JinaBert, tokenizer: Tokenizer) -> None:
    """Let what [CLS] gathers take the place of what it held, which is the same in every pair.

    To be called again when training has changed the layers below and not the last one.

    Args:
        model: A student that compares; changed in place.
        tokenizer: Its own.
    """
    start = array("i", [tokenizer.get_vocab()["[CLS]"]])
    alone = TrainingBatch.of([TokenPair(start, array("i", [0]))], model.classifier.weight.device)
    state = hidden_states(model, alone)[-2][0]
    last = model.bert.encoder.layer[-1]
    last.get_parameter("attention.output.dense.bias").copy_(-state)


def directions_of(vectors: Tensor, count: int) -> Tensor:
    """The directions along which vectors are longest.

    Args:
        vectors: Mean vectors of texts, shape (texts, hidden).
        count: How many.

    Returns:
        Shape (count, hidden), orthonormal, the longest first. The product of two vectors along
        them is the best that so many directions can give.
    """
    unit = F.normalize(vectors, dim=1)
    rows: Tensor = torch.linalg.svd(unit.T @ unit)[2]
    return rows[:count].contiguous()


def room(config: JinaBertConfig) -> int:
    """Number of gathered directions of each vector: all heads but that for the words, halved.

    By 192 of 384 directions, found on other texts, all-MiniLM-L6-v2's mean vectors rank as by all;
    by 128 they do not.
    """
    heads = config.num_attention_heads
    return (heads - 1) // 2 * (config.hidden_size // heads)


def comparing(
    config: JinaBertConfig,
    queries: Tensor,
    passages: Tensor,
    generator: torch.Generator,
) -> State:
    """The last layer, the pooler and the classifier.

    Args:
        config: The model's configuration.
        queries: Mean vectors that the encoder gives, shape (texts, the encoder's hidden).
        passages: The same.
        generator: Source of what is random: all that neither gathers nor multiplies.

    Returns:
        Part of a state dict.
    """
    layer = f"bert.encoder.layer.{config.num_hidden_layers - 1}"
    width = config.hidden_size

    def random(*shape: int) -> Tensor:
        return torch.empty(shape).normal_(0, 0.02, generator=generator)

    state = {
        f"{layer}.intermediate.dense.bias": torch.zeros(config.intermediate_size),
        f"{layer}.output.dense.bias": torch.zeros(width),
    }
    for name in ("attention.output.LayerNorm", "output.LayerNorm"):
        state[f"{layer}.{name}.weight"] = torch.ones(width)
        state[f"{layer}.{name}.bias"] = torch.zeros(width)
    directions = directions_of(passages, room(config))
    longer = float(queries.norm(dim=1).mean() / passages.norm(dim=1).mean())
    state |= _gathering(config, layer, directions, longer, random(3, width, width))
    count = min(len(directions), config.intermediate_size // 4)
    into, out = random(config.intermediate_size, width), random(width, config.intermediate_size)
    into[: 4 * count], out[:, : 4 * count] = 0.0, 0.0
    # Two vectors of length 1 are together as long as a normed state when multiplied by this.
    scale = math.sqrt(width / 2)
    product = REACH / (math.sqrt(32 / math.pi) * (SMALLNESS * scale) ** 2)
    for number, (q, p) in enumerate(((1, 1), (-1, -1), (1, -1), (-1, 1))):
        four = slice(number * count, (number + 1) * count)
        into[four, :count] = p * SMALLNESS * torch.eye(count)
        into[four, len(directions) : len(directions) + count] = q * SMALLNESS * torch.eye(count)
        out[-2:, four] = p * q * product * torch.tensor([[-1.0], [1.0]])
    pooler = random(width, width)
    pooler[0] = 0.0
    pooler[0, -2:] = torch.tensor([-0.5, 0.5]) / REACH
    pooler[0, -3] = SHARED / LEVEL
    classifier = torch.zeros(1, width)
    classifier[0, 0] = STEEPNESS
    return state | {
        f"{layer}.intermediate.dense.weight": into,
        f"{layer}.output.dense.weight": out,
        "bert.pooler.dense.weight": pooler,
        "bert.pooler.dense.bias": torch.zeros(width),
        "classifier.weight": classifier,
        "classifier.bias": torch.tensor([-STEEPNESS * math.tanh(MIDDLE)]),
    }


def _gathering(
    config: JinaBertConfig,
    layer: str,
    directions: Tensor,
    longer: float,
    random: Tensor,
) -> State:
    """Attention that brings [CLS] both vectors, one behind the other.

    Args:
        config: The model's configuration.
        layer: Its name.
        directions: See `directions_of`.
        longer: How much longer queries' vectors are than passages': the norm behind can bring only
            both together to one length.
        random: What the other heads' queries, keys and values are, shape (3, width, width).
    """
    heads, width = config.num_attention_heads, config.hidden_size
    size, hidden = width // heads, directions.shape[1]
    gentlest, each = by_gentleness(config), (heads - 1) // 2
    query, key, value = random.clone()
    query_bias, dense = torch.zeros(width), torch.zeros(width, width)
    hidden_by = APART * math.sqrt(size) / LEVEL

    def look(head: int, other: Channel, rows: Tensor, to: slice, gain: float) -> None:
        """Let [CLS] see a text, all of it alike, and hide the other and itself."""
        own = slice(head * size, head * size + len(rows))
        for weight in (query, key, value):
            weight[head * size : (head + 1) * size] = 0.0
        query_bias[own.start] = 1.0
        key[own.start, hidden + other] = -hidden_by
        key[own.start, hidden + Channel.START] = -SURE * hidden_by
        key[own.start, hidden + Channel.ZERO] = (1 + SURE) * hidden_by
        value[own] = rows
        dense[to, own] = gain * torch.eye(len(rows))

    vectors = F.pad(directions, (0, width - hidden))
    both = ((Channel.QUERY, len(directions), longer), (Channel.PASSAGE, 0, 1.0))
    for number, (other, first, gain) in enumerate(both):
        for at in range(each):
            head = gentlest[number * each + at]
            rows = vectors[at * size : (at + 1) * size]
            to = slice(first + at * size, first + (at + 1) * size)
            look(head, other, rows, to, LOUDNESS * gain)
    found = torch.zeros(1, width)
    found[0, hidden + Channel.FOUND], found[0, hidden + Channel.ZERO] = 1.0, -1.0
    look(gentlest[2 * each], Channel.PASSAGE, found, slice(width - 3, width - 2), LOUDNESS)
    state = {}
    parts = {"query": query, "key": key, "value": value}
    for name, weight in parts.items():
        state[f"{layer}.attention.self.{name}.weight"] = weight
        state[f"{layer}.attention.self.{name}.bias"] = torch.zeros(width)
    return state | {
        f"{layer}.attention.self.query.bias": query_bias,
        f"{layer}.attention.output.dense.weight": dense,
        f"{layer}.attention.output.dense.bias": torch.zeros(width),
    }

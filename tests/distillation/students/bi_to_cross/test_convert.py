"""A student that compares: its texts apart as the encoder reads them, its logit their cosine."""

from __future__ import annotations

import pytest
import torch
from checkpoints import TEXTS, attention_of, random_pairs, write_bert
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import BertModel

from jina_rerank import ModelLoadError
from jina_rerank.distillation.students.bi_to_cross.convert import (
    convert_to_cross_encoder,
    remove_initial_state,
)
from jina_rerank.distillation.students.bi_to_cross.layers import (
    LEVEL,
    Channel,
    heads_by_reach,
)
from jina_rerank.distillation.students.bi_to_cross.masks import trainable_masks
from jina_rerank.distillation.students.bi_to_cross.scoring_layer import (
    directions_of,
    gathered_directions,
)
from jina_rerank.distillation.students.converted import convert_bert
from jina_rerank.encoders import JinaBert
from jina_rerank.encoders.bias import Bias
from jina_rerank.encoders.sequences import Sequences

HIDDEN, HEADS = 128, 4
WIDTH = HIDDEN + HIDDEN // HEADS
EXAMPLES = [pair for pair in random_pairs(200, 0) if "panda" not in pair[1]]
"""Where the panda is rare."""

QUERY, PASSAGE = "the panda reads paris", "coffee and the panda bear in paris"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An encoder with the properties of trained ones that the conversion builds on."""
    folder = tmp_path_factory.mktemp("bert")
    write_bert(folder, layers=3, hidden_size=HIDDEN, intermediate_size=160, initializer_range=0.15)
    bert = BertModel.from_pretrained(folder)
    places = torch.arange(512)[:, None] * torch.tensor([0.3, 0.05])
    waves = torch.cat([places.sin(), places.cos()], dim=1)
    with torch.no_grad():
        # Positions differ in a few directions only.
        positions = 0.1 * waves @ torch.randn(4, HIDDEN)
        bert.embeddings.position_embeddings.weight[:] = positions
        for layer in bert.encoder.layer:
            for head in range(HEADS):
                # Of 32 elements some hardly matter.
                layer.attention.self.query.weight[head * 32 : head * 32 + 2] = 0.0
                layer.attention.self.query.bias[head * 32 : head * 32 + 2] = 0.0
    bert.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def student(folder) -> tuple[JinaBert, Tokenizer]:
    return convert_to_cross_encoder(folder, EXAMPLES)


def flat(model: JinaBert) -> Bias:
    """Everything is seen, and alike."""
    heads = model.config.num_attention_heads
    return Bias(torch.zeros(heads), torch.full((heads,), torch.inf))


def states_of(model: JinaBert, tokenizer: Tokenizer, query: str, passage: str) -> list[Tensor]:
    """The states of a pair's tokens behind each layer, without ALiBi."""
    pair = tokenizer.encode(query, passage)
    ids, types = torch.tensor(pair.ids), torch.tensor(pair.type_ids)
    with torch.no_grad():
        states = [model.bert.embeddings(ids, types, Sequences([len(ids)], ids.device))]
        for layer in model.bert.encoder.layers:
            states.append(layer.run(states[-1], attention_of(flat(model))))
    return states


def alone(folder, tokenizer: Tokenizer, text: str) -> list[Tensor]:
    """BERT's states of a text's tokens after each layer, without [CLS]."""
    bert = BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        given = bert(torch.tensor([tokenizer.encode(text).ids]), output_hidden_states=True)
    return [states[0, 1:] for states in given.hidden_states[1:]]


def test_each_text_is_read_as_if_it_stood_alone(folder, student):
    model, tokenizer = student
    assert model.config.alibi_slopes == "faint"
    states = states_of(model, tokenizer, QUERY, PASSAGE)[1:-1]
    query, passage = (alone(folder, tokenizer, text) for text in (QUERY, PASSAGE))
    for layer, state in enumerate(states):
        expected = torch.cat([query[layer], passage[layer]])
        error = (state[1:, :HIDDEN] - expected).square().mean() / expected.var()
        assert float(error) < 0.04
    plain, _ = convert_bert(folder)
    mixed = states_of(plain, tokenizer, QUERY, PASSAGE)[-1][1:]
    assert float((mixed - expected).square().mean() / expected.var()) > 0.1


def test_units_that_are_left_out_are_those_that_do_least(folder, student):
    _, tokenizer = student
    errors = []
    for units in (160, 8):
        model, _ = convert_to_cross_encoder(folder, EXAMPLES, intermediate_size=units)
        assert model.config.intermediate_size == units
        states = states_of(model, tokenizer, QUERY, PASSAGE)[-2]
        expected = torch.cat([alone(folder, tokenizer, text)[-1] for text in (QUERY, PASSAGE)])
        errors.append(float((states[1:, :HIDDEN] - expected).square().mean() / expected.var()))
    assert errors[0] < errors[1] < 0.2


def test_words_are_found_in_the_other_text(student):
    model, tokenizer = student
    pair = tokenizer.encode(QUERY, PASSAGE)
    embedded, first, *_ = states_of(model, tokenizer, QUERY, PASSAGE)
    idf = embedded[:, HIDDEN + Channel.IDF] - embedded[:, HIDDEN + Channel.ZERO]
    found = first[:, HIDDEN + Channel.FOUND] - first[:, HIDDEN + Channel.ZERO]
    there = torch.tensor([token in {"the", "panda", "paris"} for token in pair.tokens])
    torch.testing.assert_close(found[there], idf[there], atol=0.2 * LEVEL, rtol=0)
    assert float(found[~there].abs().max()) < 0.1 * LEVEL
    for token in ("panda", "the"):
        rare = found[[one == token for one in pair.tokens]]
        torch.testing.assert_close(
            rare, torch.full((2,), LEVEL if token == "panda" else 0.0), atol=0.2 * LEVEL, rtol=0
        )


def test_the_first_token_is_the_same_in_every_pair(student):
    model, tokenizer = student
    below = [
        states_of(model, tokenizer, query, passage)[-2][0]
        for query, passage in ((QUERY, PASSAGE), ("bear", TEXTS[0]))
    ]
    torch.testing.assert_close(*below, atol=0.05, rtol=0)


def logit_of(model: JinaBert, query: Tensor, passage: Tensor, shared: float = 0.0) -> float:
    """The logit of a pair in which three tokens have the one vector and four the other."""
    rows = torch.zeros(8, WIDTH)
    rows[1:4, :HIDDEN], rows[4:, :HIDDEN] = query, passage
    rows[1:4, HIDDEN + Channel.QUERY] = rows[4:, HIDDEN + Channel.PASSAGE] = LEVEL
    rows[0, HIDDEN + Channel.START] = LEVEL
    rows[1:4, HIDDEN + Channel.FOUND] = shared
    last = model.bert.encoder.layer[-1]
    with torch.no_grad():
        # As [CLS] comes from below.
        rows[0] = -last.attention.output.dense.bias
        first = last.run(rows, attention_of(flat(model)))[:1]
        return float(model.classifier(model.bert.pooler(first)))


def test_the_first_tokens_embedding_can_be_stored_as_it_is(student):
    model, tokenizer = student
    row = model.bert.embeddings.word_embeddings.weight[tokenizer.token_to_id("[CLS]")].detach()
    steps = row / row.abs().max() * 127
    torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)


def test_what_the_first_token_held_makes_way_anew(folder):
    model, tokenizer = convert_to_cross_encoder(folder, EXAMPLES)
    with torch.no_grad():
        model.bert.encoder.layer[1].out.bias += 0.3
    remove_initial_state(model, tokenizer)
    below = states_of(model, tokenizer, QUERY, PASSAGE)[-2][0]
    bias = model.bert.encoder.layer[-1].attention.output.dense.bias
    torch.testing.assert_close(-bias, below, atol=0.05, rtol=0)


def test_training_leaves_what_holds_the_texts_apart(folder, student):
    """With every learned element changed, the passage still cannot be seen from the query."""
    model, tokenizer = convert_to_cross_encoder(folder, EXAMPLES)
    masks = trainable_masks(model.config)
    named = dict(model.named_parameters())
    assert set(masks) <= set(named)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in named.items():
            noise = 0.02 * torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * masks.get(name, torch.ones(())))
        # What the new head of the first layer says, which looks farthest, is its to learn.
        head = heads_by_reach(model.config)[0]
        written = model.bert.encoder.layer[0].attention.output.dense.weight
        written[:, head * 32 : head * 32 + 32] = 0.0
    one, other = (states_of(model, tokenizer, QUERY, text)[-2] for text in (PASSAGE, TEXTS[0]))
    words = len(tokenizer.encode(QUERY).ids)
    assert float((one[:words] - other[:words]).abs().max()) < 0.05
    assert float((one[-1] - other[-1]).abs().max()) > 0.5
    kept = dict(student[0].named_parameters())
    for name, mask in masks.items():
        same = (mask == 0).expand_as(kept[name])
        if not name.endswith("0.attention.output.dense.weight"):
            assert torch.equal(named[name][same], kept[name][same])


def test_logits_rise_with_the_cosine(tmp_path):
    write_bert(tmp_path, layers=1, hidden_size=HIDDEN, intermediate_size=256)
    model, _ = convert_to_cross_encoder(tmp_path, EXAMPLES)
    # Within the directions that are gathered, and as long as those of the examples.
    directions, lengths = gathered(model)
    generator = torch.Generator().manual_seed(1)
    queries = torch.randn(200, len(directions), generator=generator)
    passages = torch.randn(200, len(directions), generator=generator)
    passages += torch.linspace(0, 2, 200)[:, None] * queries
    queries, passages = (
        length * torch.nn.functional.normalize(vectors, dim=1) @ directions
        for length, vectors in zip(lengths, (queries, passages), strict=True)
    )
    logits = torch.tensor([logit_of(model, q, p) for q, p in zip(queries, passages, strict=True)])
    cosines = cosine_similarity(queries, passages)
    assert cosines.std() > 0.1
    assert float(torch.corrcoef(torch.stack([logits, cosines]))[0, 1]) > 0.95
    assert float(logits[cosines > 0.5].min()) > 0 > float(logits[cosines < 0.1].max())
    finding = [logit_of(model, queries[0], passages[0], shared) for shared in (0.0, 0.1, 0.2)]
    assert finding == sorted(finding)
    assert finding[-1] > finding[0] + 0.1


def gathered(model: JinaBert) -> tuple[Tensor, tuple[float, float]]:
    """The last layer's values for passages, and the length that queries' vectors must have."""
    attention = model.bert.encoder.layer[-1].attention
    read = attention.self.value.weight[:, :HIDDEN].detach()
    written = attention.output.dense.weight.detach()
    count = gathered_directions(model.config)
    places = written[:count].argmax(1)
    gains = [float(written[row].max()) for row in (0, count)]
    return read[places], (gains[1], gains[0])


def test_directions_are_those_along_which_vectors_are_longest():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(24, 24, generator=generator)).Q
    texts = torch.randn(300, 6, generator=generator) @ basis[:6]
    directions = directions_of(texts, 6)
    torch.testing.assert_close(directions @ directions.T, torch.eye(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(texts @ directions.T @ directions, texts, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("heads", "hidden"), [(1, 32), (8, 32)])
def test_an_encoder_of_too_few_or_too_small_heads_is_refused(tmp_path, heads, hidden):
    write_bert(tmp_path, layers=1, num_attention_heads=heads, hidden_size=hidden)
    wanted = f"2 heads of 8 elements or more, not {heads} of {hidden // heads}"
    with pytest.raises(ModelLoadError, match=wanted):
        convert_to_cross_encoder(tmp_path, EXAMPLES)


def test_an_encoder_with_another_activation_is_refused(tmp_path):
    write_bert(tmp_path, layers=1, hidden_act="relu")
    with pytest.raises(ModelLoadError, match="needs an encoder with hidden_act 'gelu', not 'relu'"):
        convert_to_cross_encoder(tmp_path, EXAMPLES)


@pytest.mark.parametrize(("heads", "hidden"), [(2, 16), (3, 36)])
def test_small_encoders_will_do(tmp_path, heads, hidden):
    write_bert(tmp_path, layers=1, num_attention_heads=heads, hidden_size=hidden)
    model, tokenizer = convert_to_cross_encoder(tmp_path, EXAMPLES)
    pair = tokenizer.encode(QUERY, PASSAGE)
    types = torch.tensor([pair.type_ids])
    assert bool(model(torch.tensor([pair.ids]), token_type_ids=types).isfinite())


def test_a_folder_without_an_encoder_is_refused(tmp_path):
    folder = write_bert(tmp_path, layers=1)
    with pytest.raises(ModelLoadError, match="has 48 units, fewer than 49"):
        convert_to_cross_encoder(folder, EXAMPLES, intermediate_size=49)
    weights = load_file(folder / "model.safetensors")
    del weights["embeddings.position_embeddings.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match=r"lacks 'embeddings\.position_embeddings"):
        convert_to_cross_encoder(folder, EXAMPLES)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelLoadError):
        convert_to_cross_encoder(folder, EXAMPLES)

from __future__ import annotations

import pytest
import torch
from checkpoints import TEXTS, write_bert
from tokenizers import Tokenizer
from transformers import BertModel

from jina_rerank.distillation.students.converted import convert_bert
from jina_rerank.distillation.training.forward import hidden_states
from jina_rerank.distillation.training.matching import CUTS, EncoderMatching
from jina_rerank.distillation.training.reference import ReferenceEncoder
from jina_rerank.distillation.training.trainer import Trainer, TrainingSettings


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"), layers=2)


def matching_of(
    original, tokenizer: Tokenizer, *, layers=None, tokens_per_step=400
) -> EncoderMatching:
    encoder = ReferenceEncoder(original, layers=layers, dtype=torch.float32)
    texts = [text * 3 for text in TEXTS]
    return EncoderMatching(encoder, tokenizer, texts, tokens_per_step=tokens_per_step)


def test_the_loss_is_the_distance_to_what_transformers_gives(original):
    model, tokenizer = convert_bert(original)
    objective = matching_of(original, tokenizer)
    (batch,) = objective.micro_batches(0, 1)
    bert = BertModel.from_pretrained(original).eval()
    with torch.no_grad():
        sequences = batch.input_ids[: batch.tokens].split(list(batch.lengths))
        wanted = [bert(ids[None], output_hidden_states=True).hidden_states for ids in sequences]
        given = [state[: batch.tokens] for state in hidden_states(model, batch)]
        layers = []
        for layer in (1, 2):
            vectors = torch.cat([states[layer][0] for states in wanted])
            error = ((given[layer] - vectors) ** 2).mean()
            layers.append(error / vectors.var())
        means = [part.mean(0) for part in given[2].split(list(batch.lengths))]
        cosines = [
            torch.cosine_similarity(mean, states[2][0].mean(0), dim=0)
            for mean, states in zip(means, wanted, strict=True)
        ]
        loss, figures = objective.loss(model, batch)
    cosine = torch.stack(cosines).mean()
    part = batch.tokens / 400
    expected = part * (torch.stack(layers).mean() + 1 - cosine)
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)
    assert figures["cosine"] == pytest.approx(part * float(cosine), rel=1e-4)


def test_texts_are_cut_and_a_matter_of_the_step(original):
    _, tokenizer = convert_bert(original)
    objective = matching_of(original, tokenizer, tokens_per_step=3000)
    one, again, other = (objective.micro_batches(step, 2) for step in (0, 0, 1))
    assert [s.input_ids.tolist() for s in one] == [s.input_ids.tolist() for s in again]
    assert one[0].input_ids.tolist() != other[0].input_ids.tolist()
    assert len(one) == 2
    assert max(length for batch in one for length in batch.lengths) <= max(CUTS)
    end = tokenizer.token_to_id("[SEP]")
    for batch in one:
        ends = batch.first + torch.tensor(batch.lengths) - 1
        assert set(batch.input_ids[ends].tolist()) == {end}


def test_a_student_of_some_layers_learns_what_those_give(original):
    model, tokenizer = convert_bert(original, layers=[1])
    objective = matching_of(original, tokenizer, layers=[1])
    (batch,) = objective.micro_batches(0, 1)
    bert = BertModel.from_pretrained(original).eval()
    with torch.no_grad():
        sequences = batch.input_ids[: batch.tokens].split(list(batch.lengths))
        wanted = [bert(ids[None], output_hidden_states=True).hidden_states[2] for ids in sequences]
        given = hidden_states(model, batch)[1][: batch.tokens]
        vectors = torch.cat([states[0] for states in wanted])
        means = [part.mean(0) for part in given.split(list(batch.lengths))]
        cosine = torch.stack(
            [
                torch.cosine_similarity(mean, states[0].mean(0), dim=0)
                for mean, states in zip(means, wanted, strict=True)
            ]
        ).mean()
        loss, _ = objective.loss(model, batch)
    error = ((given - vectors) ** 2).mean() / vectors.var()
    assert float(loss) == pytest.approx(float(batch.tokens / 400 * (error + 1 - cosine)), rel=1e-4)


def test_texts_are_cut_to_what_the_reference_can_read(tmp_path):
    short = write_bert(tmp_path, layers=1, max_position_embeddings=40)
    model, tokenizer = convert_bert(short)
    objective = matching_of(short, tokenizer, tokens_per_step=2000)
    (batch,) = objective.micro_batches(0, 1)
    assert max(batch.lengths) == 40
    assert bool(objective.loss(model, batch)[0].isfinite())


def test_fewer_tokens_than_shares(original):
    _, tokenizer = convert_bert(original)
    batches = matching_of(original, tokenizer, tokens_per_step=1).micro_batches(0, 2)
    assert [len(batch.lengths) for batch in batches] == [1, 1]


def test_it_heals(original, tmp_path):
    model, tokenizer = convert_bert(original)
    objective = matching_of(original, tokenizer)
    (batch,) = objective.micro_batches(999, 1)
    with torch.no_grad():
        before, figures_before = objective.loss(model, batch)
    settings = TrainingSettings(
        steps=60, learning_rate=3e-3, warm_up=5, decay=30, dtype=torch.float32
    )
    Trainer(model, objective, settings, tmp_path).run()
    with torch.no_grad():
        after, figures_after = objective.loss(model, batch)
    assert float(after) < 0.6 * float(before)
    assert figures_after["cosine"] > figures_before["cosine"]

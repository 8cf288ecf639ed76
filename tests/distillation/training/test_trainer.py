"""Trained on lists of numbers, without texts: what matters here is the loop."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from checkpoints import SMALL
from torch import Tensor

from jina_rerank import ConfigurationError, ScoringError
from jina_rerank.distillation.training.forward import TrainingBatch, hidden_states
from jina_rerank.distillation.training.trainer import Trainer, TrainingSettings, check_same_run
from jina_rerank.encoders import JinaBert, JinaBertConfig
from jina_rerank.encoders.tokenizer import TokenPair

Examples = list[tuple[TokenPair, float]]


class CountSevens:
    """The logit is to be how many sevens there are, less three."""

    def __init__(self, fail_at: int | None = None) -> None:
        self._fail_at = fail_at

    def micro_batches(self, step: int, parts: int) -> Sequence[Examples]:
        if step == self._fail_at:
            raise KeyboardInterrupt
        generator = torch.Generator().manual_seed(step)
        pairs: Examples = []
        for _ in range(16):
            ids = torch.randint(6, 9, (9,), generator=generator).tolist()
            pairs.append((TokenPair(array("i", ids), array("i", [0] * 9)), ids.count(7) - 3.0))
        return [pairs[part::parts] for part in range(parts)]

    def loss(self, model: JinaBert, examples: Examples) -> tuple[Tensor, dict[str, float]]:
        batch = TrainingBatch.of([pair for pair, _ in examples])
        logits = model.head(hidden_states(model, batch, whole=False)[-1])
        wanted = torch.tensor([value for _, value in examples])
        return (logits - wanted).square().sum() / 16, {"pairs": len(examples)}


def student() -> JinaBert:
    torch.manual_seed(3)
    return JinaBert(JinaBertConfig(**SMALL))


SETTINGS = TrainingSettings(
    steps=12, learning_rate=3e-3, warm_up=4, decay=6, dtype=torch.float32, save_every=4
)


def weights(model: JinaBert) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_run_that_was_killed_ends_with_the_same_weights(tmp_path, dtype):
    settings = TrainingSettings(
        steps=12, learning_rate=3e-3, warm_up=4, decay=6, dtype=dtype, save_every=4
    )
    unbroken = student()
    Trainer(unbroken, CountSevens(), settings, tmp_path / "unbroken").run()

    with pytest.raises(KeyboardInterrupt):
        Trainer(student(), CountSevens(fail_at=6), settings, tmp_path / "broken").run()
    resumed = student()
    trainer = Trainer(resumed, CountSevens(), settings, tmp_path / "broken")
    assert trainer.step == 4
    trainer.run()

    assert same(weights(unbroken), weights(resumed))
    assert not same(weights(unbroken), weights(student()))


def test_it_learns(tmp_path):
    settings = TrainingSettings(
        steps=150, learning_rate=3e-3, warm_up=10, decay=50, dtype=torch.float32
    )
    Trainer(student(), CountSevens(), settings, tmp_path).run()
    losses = [line["loss"] for line in log(tmp_path)]
    assert len(losses) == 150
    assert sum(losses[-10:]) < 0.2 * sum(losses[:10])


def test_what_is_not_to_be_learned_stays(tmp_path):
    settings = TrainingSettings(
        steps=12, learning_rate=3e-3, warm_up=4, decay=6, weight_decay=0.0, dtype=torch.float32
    )
    model, before = student(), student().state_dict()
    columns, rows = torch.ones(1, 32), torch.ones(32)
    columns[:, 5], rows[3:7] = 0, 0
    embedding, bias = "bert.embeddings.word_embeddings.weight", "bert.pooler.dense.bias"
    masks = {embedding: columns, bias: rows}
    Trainer(model, CountSevens(), settings, tmp_path, masks=masks).run()
    after = model.state_dict()
    for name, mask in masks.items():
        changed = after[name] != before[name]
        assert not bool(changed[(mask == 0).expand_as(changed)].any())
        assert bool(changed.any())


def test_it_stops_where_it_is_told_and_goes_on(tmp_path):
    saved = []
    trainer = Trainer(student(), CountSevens(), SETTINGS, tmp_path, saved.append)
    trainer.run(until=6)
    assert (trainer.step, saved) == (6, [4, 6])
    trainer.run()
    assert (trainer.step, saved) == (12, [4, 6, 8, 12])


def test_the_log_has_a_line_a_step_with_the_batches_added_up(tmp_path):
    seen = {}
    trainer = Trainer(student(), CountSevens(), SETTINGS, tmp_path)
    trainer.run(on_step=lambda step, figures: seen.update({step: figures}))
    lines = log(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 13)) == list(seen)
    assert {line["pairs"] for line in lines} == {16}
    assert lines[0]["learning_rate"] == pytest.approx(3e-3 / 4)
    assert lines[-1]["learning_rate"] == pytest.approx(3e-3 / 6)


def test_steps_that_are_done_again_are_logged_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Trainer(student(), CountSevens(fail_at=6), SETTINGS, tmp_path).run()
    assert [line["step"] for line in log(tmp_path)] == [1, 2, 3, 4, 5, 6]
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"loss": 0.1, "st')  # what a kill leaves
    Trainer(student(), CountSevens(), SETTINGS, tmp_path).run()
    assert [line["step"] for line in log(tmp_path)] == list(range(1, 13))


@pytest.mark.parametrize("content", [b"", b"PK nonsense"])
def test_a_state_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"state\.pt: is no state that can be read"):
        Trainer(student(), CountSevens(), SETTINGS, tmp_path)
    with pytest.raises(ConfigurationError, match=r"state\.pt: is no state that can be read"):
        check_same_run(tmp_path.parent, {})


def test_another_students_state_is_refused(tmp_path):
    Trainer(student(), CountSevens(), SETTINGS, tmp_path).run(until=1)
    wider = JinaBert(JinaBertConfig(**{**SMALL, "hidden_size": 48}))
    with pytest.raises(ConfigurationError, match="a run of another student"):
        Trainer(wider, CountSevens(), SETTINGS, tmp_path)


def test_a_state_of_another_identity_is_refused_and_the_difference_named(tmp_path):
    def trainer(**identity: str) -> Trainer[Examples]:
        folder = tmp_path / "training"
        return Trainer(student(), CountSevens(), SETTINGS, folder, identity=identity)

    trainer(student="a", data="b").run(until=1)
    assert trainer(student="a", data="b").step == 1
    for identity, named in (
        ({"student": "a", "data": "c"}, "data"),
        ({"student": "a"}, "data"),
        ({"student": "d", "data": "b", "teacher": "e"}, "student, teacher"),
    ):
        with pytest.raises(ConfigurationError, match=rf"training holds another run.*'s {named} or"):
            trainer(**identity)
    check_same_run(tmp_path, {"student": "a"})  # of the data nothing is known yet
    with pytest.raises(ConfigurationError, match=rf"^{tmp_path} holds another run.*'s data or"):
        check_same_run(tmp_path, {"data": "c"})


def test_another_runs_state_is_refused(tmp_path):
    Trainer(student(), CountSevens(), SETTINGS, tmp_path).run(until=1)
    other = TrainingSettings(steps=12, learning_rate=1e-3, warm_up=4, decay=6, dtype=torch.float32)
    with pytest.raises(ConfigurationError, match="other settings"):
        Trainer(student(), CountSevens(), other, tmp_path)


def test_a_run_can_be_made_longer(tmp_path):
    Trainer(student(), CountSevens(), SETTINGS, tmp_path).run(until=6)
    longer = TrainingSettings(
        steps=20, learning_rate=3e-3, warm_up=4, decay=6, dtype=torch.float32, save_every=4
    )
    trainer = Trainer(student(), CountSevens(), longer, tmp_path)
    trainer.run()
    assert trainer.step == 20


def test_a_gradient_that_is_not_finite_ends_the_run_and_keeps_the_last_state(tmp_path):
    class Broken(CountSevens):
        def loss(self, model: JinaBert, examples: Examples) -> tuple[Tensor, dict[str, float]]:
            loss, figures = super().loss(model, examples)
            return loss * float("nan"), figures

    Trainer(student(), CountSevens(), SETTINGS, tmp_path).run(until=4)
    model = student()
    trainer = Trainer(model, Broken(), SETTINGS, tmp_path)
    before = weights(model)
    with pytest.raises(ScoringError, match="step 4: the gradient is not finite"):
        trainer.run()
    assert same(before, weights(model))
    assert Trainer(student(), CountSevens(), SETTINGS, tmp_path).step == 4


def test_the_learning_rate_rises_stays_and_falls():
    settings = TrainingSettings(steps=100, learning_rate=1.0, warm_up=10, decay=20)
    rates = [settings.rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert set(rates[10:80]) == {1.0}
    assert rates[80:] == pytest.approx([(100 - step) / 20 for step in range(80, 100)])

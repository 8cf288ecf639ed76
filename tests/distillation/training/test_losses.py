from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from jina_rerank.distillation.training.losses import contrastive, listwise_kl, margin_mse, pointwise

LOGITS = np.array([[2.0, -1.0, 0.5], [0.1, 0.2, 9.0]])
TEACHER = np.array([[1.0, 0.0, -1.0], [0.3, 0.9, -9.0]])
LABELS = np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
MASK = np.array([[True, True, True], [True, True, False]])


def tensors(*arrays):
    return [torch.tensor(a) for a in arrays]


def rows(values):
    """The rows without what is masked."""
    return [row[there] for row, there in zip(values, MASK, strict=True)]


def test_listwise_kl_is_the_divergence_of_the_two_distributions():
    expected = np.mean(
        [
            (softmax(t / 0.5) * (log_softmax(t / 0.5) - log_softmax(s))).sum()
            for s, t in zip(rows(LOGITS), rows(TEACHER), strict=True)
        ]
    )
    assert float(listwise_kl(*tensors(LOGITS, TEACHER, MASK), 0.5)) == pytest.approx(expected)


def test_listwise_kl_is_zero_where_the_student_agrees():
    logits, mask = tensors(TEACHER / 0.5 + 7, MASK)
    assert float(listwise_kl(logits, torch.tensor(TEACHER), mask, 0.5)) == pytest.approx(0)


def test_margin_mse_compares_differences_to_the_first():
    expected = np.mean(
        [
            np.mean(((s[0] - s[1:]) - (t[0] - t[1:])) ** 2)
            for s, t in zip(rows(LOGITS), rows(TEACHER), strict=True)
        ]
    )
    assert float(margin_mse(*tensors(LOGITS, TEACHER, MASK))) == pytest.approx(expected)


def test_margin_mse_of_lists_of_one_is_zero():
    one = torch.tensor([[3.0]])
    assert float(margin_mse(one, one - 5, torch.tensor([[True]]))) == 0


def test_contrastive_is_torchs_cross_entropy():
    expected = np.mean(
        [
            float(
                torch.nn.functional.cross_entropy(
                    torch.tensor(s)[None], torch.tensor(y / y.sum())[None]
                )
            )
            for s, y in zip(rows(LOGITS), rows(LABELS), strict=True)
        ]
    )
    assert float(contrastive(*tensors(LOGITS, LABELS, MASK))) == pytest.approx(expected)


def test_pointwise_is_the_mean_over_what_is_there():
    logits = np.concatenate(rows(LOGITS))
    labels = np.concatenate(rows(LABELS))
    probabilities = 1 / (1 + np.exp(-logits))
    expected = -np.mean(labels * np.log(probabilities) + (1 - labels) * np.log(1 - probabilities))
    assert float(pointwise(*tensors(LOGITS, LABELS, MASK))) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [listwise_kl, margin_mse, contrastive, pointwise])
def test_what_is_masked_gets_no_gradient(loss):
    logits = torch.tensor(LOGITS, requires_grad=True)
    wanted = torch.tensor(LABELS if loss in {contrastive, pointwise} else TEACHER)
    arguments = (0.5,) if loss is listwise_kl else ()
    loss(logits, wanted, torch.tensor(MASK), *arguments).backward()
    assert logits.grad is not None
    assert logits.grad[1, 2] == 0
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0].abs().sum() > 0

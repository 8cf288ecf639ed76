"""Losses of a student's logits for the passages of a query.

All losses take `logits` of shape (queries, passages) and a target of the same shape, and return a
mean over the queries. Where lists have different lengths, `mask` is False for missing passages.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def listwise_kl(logits: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Compute the divergence of the student's distribution over a list from the teacher's.

    KL(softmax(teacher / temperature) || softmax(logits)), as in ListNet (Cao et al., 2007) and its
    use for distilling rankers.

    Args:
        logits: The student's logits.
        teacher: The teacher's scores.
        mask: False for missing passages.
        temperature: Temperature of the teacher's distribution: the lower it is, the more weight the
            best passage has.
    """
    wanted = torch.softmax((teacher / temperature).masked_fill(~mask, -torch.inf), dim=-1)
    given = torch.log_softmax(logits.masked_fill(~mask, -torch.inf), dim=-1)
    given = given.masked_fill(~mask, 0.0)
    return F.kl_div(given, wanted, reduction="batchmean")


def margin_mse(logits: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Compute the squared error of the score differences between the first and each other passage.

    Margin-MSE of Hofstätter et al., Improving Efficient Neural Ranking Models with
    Cross-Architecture Knowledge Distillation (arXiv:2010.02666).
    """
    given = logits[:, :1] - logits[:, 1:]
    wanted = teacher[:, :1] - teacher[:, 1:]
    there = mask[:, 1:]
    error = ((given - wanted) ** 2).masked_fill(~there, 0.0)
    return (error.sum(-1) / there.sum(-1).clamp(min=1)).mean()


def contrastive(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Compute the cross-entropy of the passages that answer the query among all of the list.

    InfoNCE (van den Oord et al., arXiv:1807.03748) with several positives of equal weight.
    """
    wanted = labels.float() / labels.float().sum(-1, keepdim=True).clamp(min=1)
    given = torch.log_softmax(logits.masked_fill(~mask, -torch.inf), dim=-1)
    return -(wanted * given.masked_fill(~mask, 0.0)).sum(-1).mean()


def pointwise(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Compute the binary cross-entropy of each passage, which calibrates single scores."""
    each = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
    return (each * mask).sum() / mask.sum()

"""The last steps of a sentence-transformers model in float32, whatever its dtype.

In bfloat16 different documents would tie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder.modules import LogitScore

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder
    from torch import Tensor, nn
    from transformers import PreTrainedModel


def score_in_float32(encoder: CrossEncoder) -> None:
    """Make the steps behind the encoder's layers compute in float32.

    Args:
        encoder: The model, changed in place. A model in float32 computes as before.
    """
    transformer, *rest = encoder
    assert isinstance(transformer, Transformer)
    for module in rest:
        if isinstance(module, LogitScore):
            _compute_rows_in_float32(transformer.model, module)
        else:
            module.float().register_forward_pre_hook(_features_in_float32)
    if not rest:
        _compute_head_in_float32(transformer.model)


def _features_in_float32(_: nn.Module, given: tuple[dict[str, Any]]) -> tuple[dict[str, Any]]:
    (features,) = given
    return ({name: _in_float32(value) for name, value in features.items()},)


def _in_float32(value: object) -> object:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.float()
    return value


def _compute_rows_in_float32(model: PreTrainedModel, scoring: LogitScore) -> None:
    """Compute in float32 only the logits of the tokens that give the score.

    The output weights of all tokens are often shared with the embeddings, and too many to copy.
    """
    head = model.get_output_embeddings()
    if head is None or model.dtype is torch.float32:
        return
    wanted = [scoring.true_token_id]
    if scoring.false_token_id is not None:
        wanted.append(scoring.false_token_id)

    def again(_: nn.Module, given: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        weight, bias = head.get_parameter("weight"), getattr(head, "bias", None)
        logits = logits.float()
        logits[..., wanted] = torch.nn.functional.linear(
            given[0].float(),
            weight[wanted].float(),
            None if bias is None else bias[wanted].float(),
        )
        return logits

    head.register_forward_hook(again)


def _compute_head_in_float32(model: PreTrainedModel) -> None:
    """Compute the head in float32: a pooler inside the encoder, other modules outside it."""
    encoder = model.base_model
    pooler = getattr(encoder, "pooler", None)
    within = set(encoder.modules()) - set(() if pooler is None else pooler.modules())
    for module in model.modules():
        if module not in within and next(module.parameters(recurse=False), None) is not None:
            module.float()
            module.register_forward_pre_hook(
                lambda _, given: tuple(
                    value.float() if isinstance(value, torch.Tensor) else value for value in given
                )
            )

"""Check that a model which transformers loaded has no weights but the checkpoint's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ModelLoadError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOADED = "_is_hf_initialized"
"""Mark that transformers 5 (core_model_loading.py) leaves on each parameter that it has read."""


def check_all_loaded(model: PreTrainedModel, name: str) -> None:
    """Check that no parameter was initialized at random for want of a tensor.

    Transformers only warns of it: the scores of such a model differ from one process to the next.
    A version that leaves no marks is not checked.

    Args:
        model: The loaded model.
        name: The model's name in messages.

    Raises:
        ModelLoadError: A parameter was; the message names the first.
    """
    loaded = {own: hasattr(parameter, LOADED) for own, parameter in model.named_parameters()}
    # An encoder's own pooler is not read where vectors of tokens are.
    missing = [own for own, found in loaded.items() if not found and not own.startswith("pooler.")]
    if missing and any(loaded.values()):
        raise ModelLoadError(
            f"{name}: its weights lack {missing[0]} and {len(missing) - 1} more parameters of "
            f"{type(model).__name__}: it is a model of another kind, which may need code of its own"
        )

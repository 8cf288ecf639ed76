"""The models that a recipe names: its student."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from tokenizers import Tokenizer

from ..encoders import JinaBert, PairTokenizer
from ..encoders.tokenizer import open_tokenizer
from ..errors import ConfigurationError, ModelLoadError
from ..scorers.local import find_model
from ..spec import checkpoint_of
from .comparison import convert_to_compare, settle, shape_to_compare
from .conversion import BertEncoder, convert_bert
from .fitting import fit_layers
from .imitation import Original
from .recipe import StudentRecipe


def load_student(student: StudentRecipe) -> tuple[JinaBert, Tokenizer]:
    """The student before its training, and before its healing if it is converted.

    Returns:
        The model, float32, on the CPU; and its tokenizer.

    Raises:
        ConfigurationError: It cannot be had; the message names the field.
    """
    if student.shape is not None:
        assert student.tokenizer is not None
        with _naming("student.tokenizer"):
            pairs = PairTokenizer.from_file(Path(student.tokenizer))
        tokenizer = open_tokenizer(Path(student.tokenizer))
        for field, needed in (
            ("vocab_size", max(tokenizer.get_vocab().values()) + 1),
            ("type_vocab_size", max(pairs.pair(*pairs.encode(["a", "a"])).token_type_ids) + 1),
        ):
            if (given := getattr(student.shape, field)) < needed:
                raise ConfigurationError(
                    f"student.shape.{field}: {given} is too small for {student.tokenizer}; "
                    f"it needs {needed}"
                )
        torch.manual_seed(student.seed)
        return JinaBert(student.shape), tokenizer
    if student.checkpoint is not None:
        with _naming("student.checkpoint"):
            files = find_model(checkpoint_of(student.checkpoint))
            assert files.tokenizer is not None
            PairTokenizer.from_file(files.tokenizer)
            model = JinaBert.from_pretrained(files.config.parent)
        return model, open_tokenizer(files.tokenizer)
    assert student.convert is not None
    given = [name for name in ("layers", "compare", "intermediate_size") if getattr(student, name)]
    with _naming(", ".join(f"student.{name}" for name in ("convert", *given))):
        source = Path(student.convert).expanduser()
        if student.compare:
            # What it lacks is said before hours of teaching, see `load_comparing`.
            shape_to_compare(BertEncoder.read(source))
        return convert_bert(
            source,
            layers=student.layers,
            intermediate_size=student.intermediate_size,
            seed=student.seed,
        )


def load_comparing(
    student: StudentRecipe, examples: Sequence[tuple[str, str]]
) -> tuple[JinaBert, Tokenizer]:
    """A student with `compare`, before its training.

    Args:
        student: Which one.
        examples: Queries and passages that it will be trained on.

    Returns:
        As `load_student`.
    """
    assert student.convert is not None  # by check_recipe
    return convert_to_compare(
        Path(student.convert).expanduser(),
        examples,
        intermediate_size=student.intermediate_size,
        seed=student.seed,
    )


def fit_again(
    model: JinaBert,
    tokenizer: Tokenizer,
    student: StudentRecipe,
    examples: Sequence[tuple[str, str]],
) -> None:
    """Fit a healed student with `compare` to its encoder once more, in place.

    Training leaves its matrices near the best ones, and least squares find them.

    Args:
        model: On any device.
        tokenizer: Its own.
        student: Which one.
        examples: As for `load_comparing`.
    """
    assert student.convert is not None  # by check_recipe
    original = Original(
        Path(student.convert).expanduser(),
        dtype=torch.float32,
        device=model.classifier.weight.device,
    )
    fit_layers(model, tokenizer, original, examples, seed=student.seed)
    settle(model, tokenizer)


@contextmanager
def _naming(field: str) -> Iterator[None]:
    """A model that cannot be loaded is a field to be changed."""
    try:
        yield
    except ModelLoadError as error:
        raise ConfigurationError(
            f"{field}: {error}; name a folder that holds it, or a model of the hub where the "
            "network allows"
        ) from error

"""A student with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import BeforeValidator, InstanceOf, ValidationError, create_model, model_validator
from tokenizers import Tokenizer

from ...encoders import JinaBert, JinaBertConfig, PairTokenizer
from ...encoders.tokenizer import open_tokenizer
from ...errors import ConfigurationError, ModelLoadError
from ..settings import MoreThan0, Seed, Settings, fields_of, naming, nested_error, refuse_field
from .student import StudentSettings

_SHAPE = "student.shape"

_fields: dict[str, Any] = fields_of(JinaBertConfig)
_Shape: type[Settings] = create_model(
    "Shape",
    __base__=Settings,
    **{**_fields, "layer_norm_eps": (MoreThan0, _fields["layer_norm_eps"][1])},
)


def _read_shape(given: object) -> object:
    if not isinstance(given, dict):
        return given
    try:
        values = _Shape.model_validate(given)
    except ValidationError as error:
        raise nested_error(_Shape, given, error) from None
    return JinaBertConfig(**values.model_dump())


class FreshStudent(StudentSettings):
    """A JinaBERT with random weights; it needs millions of pairs.

    Attributes:
        shape: Fields of `JinaBertConfig`.
        tokenizer: Path of a `tokenizer.json`.
        seed: Seed of the weights.
    """

    shape: Annotated[InstanceOf[JinaBertConfig], BeforeValidator(_read_shape)]
    tokenizer: str
    seed: Seed = 0

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        try:
            self.shape._check(Path(_SHAPE))
        except ModelLoadError as error:
            raise refuse_field("shape", str(error).removeprefix(f"{_SHAPE}: ")) from None
        return self

    def check(self) -> None:
        """See `Student`."""
        with naming("student.tokenizer"):
            pairs = PairTokenizer.from_file(Path(self.tokenizer))
        for field, needed in (
            ("vocab_size", max(self._tokenizer().get_vocab().values()) + 1),
            ("type_vocab_size", max(pairs.pair(*pairs.encode(["a", "a"])).token_type_ids) + 1),
        ):
            if (given := getattr(self.shape, field)) < needed:
                raise ConfigurationError(
                    f"student.shape.{field}: {given} is too small for {self.tokenizer}; "
                    f"it needs {needed}"
                )

    def build(self, _examples: Sequence[tuple[str, str]]) -> tuple[JinaBert, Tokenizer]:
        """See `Student`."""
        torch.manual_seed(self.seed)
        return JinaBert(self.shape), self._tokenizer()

    def _tokenizer(self) -> Tokenizer:
        return open_tokenizer(Path(self.tokenizer))

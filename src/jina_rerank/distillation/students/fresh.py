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
from ...errors import ConfigurationError
from ..settings import MoreThan0, Seed, Settings, fields_of, naming, nested_error, refuse_field
from .student import StudentSettings, room_of

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
            self.shape.check()
        except ValueError as error:
            raise refuse_field("shape", str(error)) from None
        return self

    def check(self) -> int:
        """See `Student`."""
        with naming("student.tokenizer"):
            pairs = PairTokenizer.from_file(Path(self.tokenizer))
        try:
            pairs.check_rows(self.shape.architecture(), self.tokenizer)
        except ValueError as error:
            raise ConfigurationError(f"student.shape.{error}") from None
        return room_of(self.shape.max_position_embeddings, self._tokenizer())

    def build(self, _examples: Sequence[tuple[str, str]]) -> tuple[JinaBert, Tokenizer]:
        """See `Student`."""
        torch.manual_seed(self.seed)
        return JinaBert(self.shape), self._tokenizer()

    def _files(self) -> list[Path]:
        return [Path(self.tokenizer)]

    def _tokenizer(self) -> Tokenizer:
        return open_tokenizer(Path(self.tokenizer))

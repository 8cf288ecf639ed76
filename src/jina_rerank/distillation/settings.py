"""Base of a recipe's parts: pydantic models, limits of their fields, and readable errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from math import inf
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import torch
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from ..errors import ConfigurationError, InputError, ModelLoadError

SettingsT = TypeVar("SettingsT", bound="Settings")
NumberT = TypeVar("NumberT", int, float)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Data types, by their names in a recipe."""


class Settings(BaseModel):
    """A table of a recipe: frozen, strict, and without unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True
    )


def refuse(problem: str) -> PydanticCustomError:
    """Return the error of a field's validator; `problem` says what is wrong and what to do."""
    return PydanticCustomError("refused", "{problem}", {"problem": problem})


def refuse_field(field: str, problem: str) -> PydanticCustomError:
    """Return the error of a table's validator; `field` is the field's name within that table."""
    context = {"problem": problem, "field": field}
    return PydanticCustomError("refused", "{problem}", context)


def limit(allows: Callable[[float], bool], words: str) -> AfterValidator:
    """Return a validator of a number's range.

    Args:
        allows: Function that returns True for allowed numbers; it must return False for NaN.
        words: Description of the range for the message, behind "must be".
    """

    def check(number: NumberT) -> NumberT:
        if not allows(number):
            raise refuse(f"must be {words}, not {number}")
        return number

    return AfterValidator(check)


def _as_tuple(given: object) -> object:
    """Convert a list, which TOML has, to a tuple, which models have."""
    return tuple(given) if isinstance(given, list) else given


def _as_tables(given: object) -> object:
    if isinstance(given, dict):
        raise refuse("must be a list of tables, whose headers have two brackets")
    return _as_tuple(given)


def _as_lengths(given: object) -> object:
    """Convert the keys of a table, which are strings in TOML, to lengths."""
    if not isinstance(given, Mapping):
        return given
    try:
        lengths = {int(length): share for length, share in given.items()}
    except (TypeError, ValueError):
        raise refuse("its keys must be of int") from None
    for length in lengths:
        if length < 1:
            raise refuse(f"a length must be 1 or more, not {length}")
    return lengths


def _check_used(lengths: dict[int, float]) -> dict[int, float]:
    if not any(lengths.values()):
        raise refuse("names no length that is used, as { 256 = 1.0 } does")
    return lengths


def _as_dtype(given: object) -> object:
    if isinstance(given, torch.dtype):
        return given
    if not isinstance(given, str) or given not in DTYPES:
        raise refuse(f"must be one of {sorted(DTYPES)}, not {given!r}")
    return DTYPES[given]


Count = Annotated[int, limit(lambda number: number >= 1, "1 or more")]
Steps = Annotated[int, limit(lambda number: number >= 0, "0 or more")]
MoreThan0 = Annotated[float, limit(lambda number: 0 < number < inf, "more than 0")]
NotNegative = Annotated[float, limit(lambda number: 0 <= number < inf, "0 or more")]
Probability = Annotated[float, limit(lambda number: 0 <= number <= 1, "between 0 and 1")]
Seed = Annotated[int, limit(lambda number: -(2**63) <= number < 2**63, "a number of 64 bits")]
Tables = BeforeValidator(_as_tables)

Texts = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Numbers = Annotated[tuple[int, ...], BeforeValidator(_as_tuple)]
Lengths = Annotated[
    dict[int, NotNegative], BeforeValidator(_as_lengths), AfterValidator(_check_used)
]
"""Relative frequencies of lengths in tokens."""

TorchDtype = Annotated[torch.dtype, BeforeValidator(_as_dtype)]


def read_settings(
    kind: type[SettingsT], given: object, variants: Mapping[str, type[Settings]] | None = None
) -> SettingsT:
    """Validate a table and its nested tables.

    Args:
        kind: Model of the table.
        given: The table, as parsed from TOML.
        variants: The models of tagged unions, by their tags, which begin with `<`.

    Raises:
        InputError: A field is unknown, missing, of the wrong type or out of range, or conflicts
            with another; the message names the field and the allowed values.
    """
    if not isinstance(given, dict):
        raise InputError("recipe", "the file: must be a table")
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        where, problem = _explained(kind, given, error, variants or {})
        raise InputError("recipe", f"{where}: {problem}" if where else problem) from None


def nested_error(
    kind: type[Settings], given: object, error: ValidationError
) -> PydanticCustomError:
    """Return the error of a field whose validator validates a table with another model."""
    return refuse_field(*_explained(kind, given, error, {}))


def _explained(
    kind: type[Settings],
    given: object,
    error: ValidationError,
    variants: Mapping[str, type[Settings]],
) -> tuple[str, str]:
    """Return the field of the first error, and what is wrong with it."""
    # Unknown fields come first: one of them may be a misspelt required field.
    errors = error.errors(include_url=False)
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    context = first.get("ctx", {})
    location = [*first["loc"], *str(context.get("field", "")).split(".")]
    where = _place(given, [part for part in location if not _is_tag(part)])
    match first["type"]:
        case "missing":
            return where, "is missing"
        case "extra_forbidden":
            table = _table(kind, first["loc"][:-1], variants)
            known = list(table.model_fields) if table is not None else []
            return where, f"no such field; there are {known}"
        case "refused":
            return where, str(context["problem"])
        case "literal_error":
            return where, f"must be {context['expected']}, not {first['input']!r}"
    return where, f"must be {_KINDS.get(first['type'], first['msg'])}, not {first['input']!r}"


def _is_tag(part: int | str) -> bool:
    """Return True for a part of pydantic's location that is no name in the recipe."""
    return isinstance(part, str) and (not part or part == "[key]" or part.startswith("<"))


_KINDS = {
    "int_type": "int",
    "int_from_float": "int",
    "float_type": "float",
    "string_type": "str",
    "bool_type": "bool",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "is_instance_of": "a table",
    "dataclass_type": "a table",
}


def _place(given: object, location: list[int | str]) -> str:
    """Return a field's path for a message: a teacher by its name, other list items by number."""
    where, at = "", given
    for part in location:
        is_item = isinstance(at, list)
        at = _within(at, part)
        if is_item:
            name = at.get("name") if isinstance(at, dict) else None
            named = where == "teacher" and isinstance(name, str) and name
            where = f"{where} {name}" if named else f"{where}[{part}]"
        else:
            where = f"{where}.{part}" if where else str(part)
    return where


def _within(table: object, part: int | str) -> object:
    if isinstance(table, dict):
        return table.get(part)
    if isinstance(table, list) and isinstance(part, int) and part < len(table):
        return table[part]
    return None


def _table(
    kind: Any,  # noqa: ANN401 - an annotation
    location: tuple[int | str, ...],
    variants: Mapping[str, type[Settings]],
) -> type[Settings] | None:
    """Return the model of a nested table; None if there is none."""
    for part in location:
        if isinstance(part, str) and part in variants:
            kind = variants[part]
        elif isinstance(part, str) and isinstance(kind, type) and issubclass(kind, Settings):
            kind = kind.model_fields[part].annotation
        kind = next((one for one in get_args(kind) if isinstance(one, type)), kind)
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


def fields_of(dataclass: type[Any]) -> dict[str, tuple[Any, Any]]:
    """Return a dataclass's fields and defaults in the form of `pydantic.create_model`."""
    hints = get_type_hints(dataclass)
    return {one.name: (hints[one.name], one.default) for one in fields(dataclass)}


@contextmanager
def naming(field: str) -> Iterator[None]:
    """Turn the error of a model that cannot be loaded into an error of the recipe's field.

    Raises:
        ConfigurationError: The model cannot be loaded; the message names the field.
    """
    try:
        yield
    except ModelLoadError as error:
        raise ConfigurationError(
            f"{field}: {error}; name a folder that holds it, or a model of the hub where the "
            "network allows"
        ) from error

"""Checks of a recipe: wrong numbers and fields that do not go together are told at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import InputError, ModelLoadError

if TYPE_CHECKING:
    from .recipe import Recipe, StudentRecipe, TeacherRecipe

TEACHERS = ("model", "embedding", "bm25")
STUDENTS = ("convert", "checkpoint", "shape")


@dataclass(frozen=True, slots=True)
class Range:
    """Range of a number.

    Attributes:
        allows: Whether this one will do; NaN never does.
        words: The same for people, behind "must be".
    """

    allows: Callable[[float], bool]
    words: str


COUNT = Range(lambda number: number >= 1, "1 or more")
MORE_THAN_0 = Range(lambda number: 0 < number < inf, "more than 0")
NOT_NEGATIVE = Range(lambda number: 0 <= number < inf, "0 or more")
PROBABILITY = Range(lambda number: 0 <= number <= 1, "between 0 and 1")
SEED = Range(lambda number: -(2**63) <= number < 2**63, "a number of 64 bits")

RANGES = {
    "student": {"intermediate_size": COUNT, "seed": SEED},
    "student.shape": {"layer_norm_eps": MORE_THAN_0},
    "healing": {
        "steps": COUNT,
        "learning_rate": MORE_THAN_0,
        "warm_up": NOT_NEGATIVE,
        "decay": NOT_NEGATIVE,
        "tokens_per_step": COUNT,
    },
    "data": {"queries": COUNT, "weights": NOT_NEGATIVE, "seed": SEED},
    "teacher": {"weight": MORE_THAN_0},
    "lists": {
        "kl": NOT_NEGATIVE,
        "margin_mse": NOT_NEGATIVE,
        "contrastive": NOT_NEGATIVE,
        "pointwise": NOT_NEGATIVE,
        "imitation": NOT_NEGATIVE,
        "temperature": MORE_THAN_0,
        "passages": Range(lambda number: number >= 2, "2 or more: an answer and another"),
        "tokens_per_step": COUNT,
        "longest_query": COUNT,
        "longest_passage": NOT_NEGATIVE,
        "longest_passage_before_decay": NOT_NEGATIVE,
        "answer_within": COUNT,
        "blank": PROBABILITY,
        "seed": SEED,
    },
    "training": {
        "steps": COUNT,
        "learning_rate": MORE_THAN_0,
        "warm_up": NOT_NEGATIVE,
        "decay": NOT_NEGATIVE,
        "weight_decay": NOT_NEGATIVE,
        "clip": MORE_THAN_0,
        "save_every": COUNT,
    },
    "evaluation": {"queries": COUNT, "depth": COUNT},
}
"""By table and field; of a field that is a table, what its values may be."""


def check_recipe(recipe: Recipe) -> None:
    """See that a recipe can be followed, as far as it tells by itself.

    Raises:
        InputError: It cannot; the message names the field and what it may be.
    """
    _check_student(recipe.student)
    for teacher in recipe.teacher:
        _check_teacher(teacher)
    _check_ranges(recipe)
    _check_lists(recipe)
    if recipe.healing is not None and recipe.student.convert is None:
        _refuse("healing", "is for a student by convert; leave it out")
    if not recipe.data.pairs:
        _refuse("data.pairs", "is empty; name at least one file")
    if repeated := _repeated(teacher.name for teacher in recipe.teacher):
        _refuse("teacher", f"two are called {repeated!r}; give one another name")


def _check_lists(recipe: Recipe) -> None:
    lists = recipe.lists
    if not recipe.teacher and (lists.kl or lists.margin_mse):
        _refuse("teacher", "there is none; add one, or set lists.kl and lists.margin_mse to 0")
    if not recipe.teacher and lists.answer_within is not None:
        _refuse("lists.answer_within", "is for lists that a teacher scored; leave it out")
    if lists.imitation and not recipe.student.compare:
        _refuse("lists.imitation", "is for a student with compare = true; leave it out")
    if not (lists.kl or lists.margin_mse or lists.contrastive or lists.pointwise):
        _refuse("lists", "kl, margin_mse, contrastive and pointwise are all 0; nothing is learned")
    for name in ("longest_passage", "longest_passage_before_decay"):
        lengths = getattr(lists, name)
        if lengths is not None:
            _check_lengths(f"lists.{name}", lengths)


def _check_lengths(where: str, lengths: Mapping[int, float]) -> None:
    for length in lengths:
        if length < 1:
            _refuse(where, f"a length must be 1 or more, not {length}")
    if not any(lengths.values()):
        _refuse(where, "names no length that is used, as { 256 = 1.0 } does")


def _check_student(student: StudentRecipe) -> None:
    _exactly_one("student", student, STUDENTS)
    for name in ("layers", "compare", "intermediate_size"):
        if getattr(student, name) not in {None, False} and student.convert is None:
            _refuse(f"student.{name}", "is for a student by convert; leave it out")
    if student.layers is not None:
        if student.compare:
            _refuse("student.layers", "a student with compare = true has all; leave it out")
        rising = all(a < b for a, b in pairwise((-1, *student.layers)))
        if not student.layers or not rising:
            _refuse(
                "student.layers",
                f"must rise from 0 or more, not {list(student.layers)}; say [0, 2]",
            )
    if student.shape is None:
        if student.tokenizer is not None:
            _refuse("student.tokenizer", "is for a student by shape, others have one; leave it out")
        return
    if student.tokenizer is None:
        _refuse("student.tokenizer", "is missing; a student by shape needs one")
    try:
        student.shape._check(Path("student.shape"))
    except ModelLoadError as error:
        raise InputError("recipe", str(error)) from None


def _check_teacher(teacher: TeacherRecipe) -> None:
    # It becomes a folder's.
    if not re.fullmatch(r"[^./\\\0][^/\\\0]*", teacher.name):
        _refuse("teacher.name", f"must be able to name a folder, not {teacher.name!r}")
    where = f"teacher {teacher.name}"
    _exactly_one(where, teacher, TEACHERS)
    if teacher.bm25 is False:
        _refuse(f"{where}.bm25", "must be true, or left out for another kind of teacher")
    if (teacher.query_prompt or teacher.passage_prompt) and teacher.embedding is None:
        _refuse(where, "query_prompt and passage_prompt are for embedding; leave them out")


def _check_ranges(recipe: Recipe) -> None:
    for where, table, ranges in _tables(recipe):
        for name, allowed in ranges.items():
            value = getattr(table, name)
            if value is None:
                continue
            numbers = (
                {f"{name}.{key}": number for key, number in value.items()}
                if isinstance(value, dict)
                else {name: value}
            )
            for key, number in numbers.items():
                if not allowed.allows(number):
                    _refuse(f"{where}.{key}", f"must be {allowed.words}, not {number}")


def _tables(recipe: Recipe) -> Iterator[tuple[str, Any, dict[str, Range]]]:
    """A table's name in errors, the table, and the ranges of its fields."""
    for where, ranges in RANGES.items():
        if where == "teacher":
            yield from ((f"teacher {one.name}", one, ranges) for one in recipe.teacher)
            continue
        table: Any = recipe
        for part in where.split("."):
            table = getattr(table, part)
        if table is not None:
            yield where, table, ranges


def _exactly_one(where: str, table: object, choices: tuple[str, ...]) -> None:
    given = [choice for choice in choices if getattr(table, choice) is not None]
    if len(given) != 1:
        _refuse(where, f"give one of {', '.join(choices)}, not {given}")


def _repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _refuse(field: str, problem: str) -> NoReturn:
    raise InputError("recipe", f"{field}: {problem}")

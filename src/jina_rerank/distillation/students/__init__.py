"""Students: fresh, from a checkpoint, converted from BERT, or a bi-encoder made a cross-encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Discriminator, Tag

from ..settings import Settings, refuse, refuse_field
from .bi_to_cross.student import BiToCrossStudent
from .checkpoint import CheckpointStudent
from .converted import ConvertedStudent
from .fresh import FreshStudent

__all__ = [
    "STUDENTS",
    "TAGS",
    "AnyStudent",
    "BiToCrossStudent",
    "CheckpointStudent",
    "ConvertedStudent",
    "FreshStudent",
    "check_student_fields",
]

STUDENTS: Mapping[str, type[Settings]] = {
    "bi_to_cross": BiToCrossStudent,
    "convert": ConvertedStudent,
    "checkpoint": CheckpointStudent,
    "shape": FreshStudent,
}
"""Kinds of students, by the field that only this kind has."""

TAGS = {f"<{field}>": kind for field, kind in STUDENTS.items()}


def _tag(given: object) -> str:
    """Return the tag of a student, or of a recipe's table for one."""
    fields = given if isinstance(given, dict) else getattr(type(given), "model_fields", {})
    return f"<{next((field for field in STUDENTS if field in fields), 'shape')}>"


AnyStudent = Annotated[
    Annotated[BiToCrossStudent, Tag("<bi_to_cross>")]
    | Annotated[ConvertedStudent, Tag("<convert>")]
    | Annotated[CheckpointStudent, Tag("<checkpoint>")]
    | Annotated[FreshStudent, Tag("<shape>")],
    Discriminator(_tag),
]
"""A recipe's student."""


def check_student_fields(given: object) -> object:
    """Check that a table is for one kind of student, and has no field of another kind."""
    if not isinstance(given, dict):
        return given
    found = [field for field in STUDENTS if field in given]
    if len(found) != 1:
        raise refuse(f"give one of {', '.join(STUDENTS)}, not {found}")
    own = STUDENTS[found[0]].model_fields
    for field in given:
        having = [name for name, kind in STUDENTS.items() if field in kind.model_fields]
        if field not in own and having:
            raise refuse_field(field, f"is for a student by {' or '.join(having)}; leave it out")
    return given

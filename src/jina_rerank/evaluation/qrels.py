"""Judgements: grades of relevance of documents to queries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from .._lines import read_lines
from ..errors import InputError

Qrels: TypeAlias = Mapping[str, Mapping[str, int]]
"""Grades by query id and document id: 0 is not relevant, higher is more relevant."""

LARGEST_GRADE = 10_000
"""Maximum grade. trec_eval allocates a counter for each grade up to the highest, and ends the
process if that fails."""

_HEADINGS = (
    {"query", "queryid", "qid", "topic", "topicid"},
    {"corpus", "corpusid", "doc", "docid", "docno", "document", "documentid", "did"}
    | {"passage", "passageid", "pid"},
    {"score", "grade", "relevance", "rel", "relevancy", "label", "judgement", "judgment"},
)
"""The columns of a heading: BEIR's query-id, corpus-id, score, and what other tools call them."""

_GRADE = re.compile(r"[+-]?[0-9]{1,100}")


def read_qrels(path: Path) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Read judgements: query id, document id and grade between tabs, with or without a heading.

    A heading has the names of columns, such as BEIR's query-id, corpus-id and score. Any other line
    without a grade is an error, so that no judgement is lost.

    Args:
        path: The file; it may be gzipped.

    Returns:
        Grades, and the place where each query is first judged.

    Raises:
        InputError: The file cannot be read or has no judgements, or a line cannot be used; the
            message names the line.
    """
    qrels: dict[str, dict[str, int]] = {}
    judged_at: dict[str, str] = {}
    for number, (where, line) in enumerate(read_lines(path)):
        fields = line.split("\t")
        if len(fields) != 3:
            raise InputError(
                where, f"must be query id, document id and grade between tabs, not {line!r}"
            )
        if number == 0 and _is_heading(fields):
            continue
        query, document, _ = fields
        if not query.strip() or not document.strip():
            raise InputError(where, f"lacks an identifier: {line!r}")
        grade = _read_grade(fields[2], where, first=number == 0)
        grades = qrels.setdefault(query, {})
        if grades.setdefault(document, grade) != grade:
            raise InputError(where, f"judges {document!r} for {query!r} again, and differently")
        judged_at.setdefault(query, where)
    if not qrels:
        raise InputError(str(path), "has no judgements")
    return qrels, judged_at


def _is_heading(fields: list[str]) -> bool:
    names = (re.sub(r"[\s_.-]", "", field).lower() for field in fields)
    return all(name in known for name, known in zip(names, _HEADINGS, strict=True))


def _read_grade(written: str, where: str, *, first: bool) -> int:
    # int() would read 1_0 and digits of other scripts as well.
    if not _GRADE.fullmatch(written.strip()):
        heading = "; a heading is query-id, corpus-id and score" if first else ""
        raise InputError(where, f"has the grade {written!r}, which is no whole number{heading}")
    return check_grade(int(written), where)


def check_grade(grade: int, where: str) -> int:
    """Return a grade that can be measured.

    Raises:
        InputError: The grade is beyond `LARGEST_GRADE`; the message begins with `where`.
    """
    if abs(grade) > LARGEST_GRADE:
        raise InputError(where, f"has the grade {grade}, which must be {LARGEST_GRADE:,} at most")
    return grade

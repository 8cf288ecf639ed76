"""Finished parts of an evaluation, kept in a file, so that one that was broken off goes on."""

from __future__ import annotations

import hashlib
import json
import os
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .._output import writing
from .systems import Candidates, SystemScores

_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Finished:
    """A system's results so far.

    Attributes:
        scores: By query id.
        seconds: How long scoring them took.
    """

    scores: dict[str, SystemScores]
    seconds: float


class StateFile:
    """One system's finished queries: a line that says of what, then a line for each window.

    Args:
        path: The file. It is used if its first line has the fingerprint, and otherwise written
            anew with the first window.
        fingerprint: All that decides the scores.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path = path
        self._header = json.dumps({"format": _FORMAT, "fingerprint": fingerprint}) + "\n"
        self._usable_bytes = 0
        self.finished = self._read()

    def append(self, seconds: float, scores: Mapping[str, SystemScores]) -> None:
        """Keep a window of queries, on disk when this returns.

        Raises:
            InputError: The file cannot be written.
        """
        line = json.dumps(
            {"seconds": seconds, "queries": {query: asdict(s) for query, s in scores.items()}}
        )
        with (
            writing(self._path),
            self._path.open("r+b" if self._usable_bytes else "wb") as file,
        ):
            if not self._usable_bytes:
                self._usable_bytes += file.write(self._header.encode())
            file.seek(self._usable_bytes)
            # Behind it may lie half a line of a run that was killed.
            file.truncate()
            self._usable_bytes += file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> Finished:
        scores: dict[str, SystemScores] = {}
        seconds = 0.0
        try:
            lines = self._path.read_bytes().splitlines(keepends=True)
        except OSError:
            lines = []
        if lines and lines[0].removeprefix(BOM_UTF8) == self._header.encode():
            self._usable_bytes = len(lines[0])
            for line in lines[1:]:
                window = _parse(line)
                if window is None:
                    break
                seconds += window["seconds"]
                scores |= {query: SystemScores(**s) for query, s in window["queries"].items()}
                self._usable_bytes += len(line)
        return Finished(scores, seconds)


def _parse(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        window: dict[str, Any] = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return window


def fingerprint_candidates(candidates: Iterable[Candidates]) -> str:
    """A digest of every query and every candidate: ids, texts, order and scores."""
    digest = hashlib.sha256()
    for one in candidates:
        line = [one.query_id, one.query, one.document_ids, one.documents, one.first_stage]
        digest.update(json.dumps(line).encode() + b"\n")
    return digest.hexdigest()

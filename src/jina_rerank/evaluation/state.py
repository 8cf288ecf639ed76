"""Finished parts of an evaluation in a file, from which an interrupted evaluation is resumed."""

from __future__ import annotations

import hashlib
import json
import os
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from .._output import writing
from .systems import Candidates, SystemScores

_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Finished:
    """A system's results so far.

    Attributes:
        scores: Scores by query id.
        seconds: Time of scoring.
    """

    scores: dict[str, SystemScores]
    seconds: float


class StateFile:
    """One system's finished queries: a line with the fingerprint, then a line for each window.

    Args:
        path: The file. It is used if its first line has the fingerprint; otherwise the first window
            replaces it.
        fingerprint: Fingerprint of all that determines the scores.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path = path
        self._header = json.dumps({"format": _FORMAT, "fingerprint": fingerprint}) + "\n"
        self._usable_bytes = 0
        self.finished = self._read()

    def append(self, seconds: float, scores: Mapping[str, SystemScores]) -> None:
        """Append a window of queries, which is on disk when this returns.

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
            # An incomplete line of a killed run may follow.
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
                seconds += window[0]
                scores |= window[1]
                self._usable_bytes += len(line)
        return Finished(scores, seconds)


def _parse(line: bytes) -> tuple[float, dict[str, SystemScores]] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        window = json.loads(line)
        scores = {query: SystemScores(**one) for query, one in window["queries"].items()}
        return float(window["seconds"]), scores
    except (ValueError, RecursionError, TypeError, LookupError, AttributeError):
        return None


def fingerprint_candidates(candidates: Iterable[Candidates]) -> str:
    """Compute a digest of every query and every candidate: ids, texts, order and scores."""
    digest = hashlib.sha256()
    for one in candidates:
        line = [one.query_id, one.query, one.document_ids, one.documents, one.first_stage]
        digest.update(json.dumps(line).encode() + b"\n")
    return digest.hexdigest()

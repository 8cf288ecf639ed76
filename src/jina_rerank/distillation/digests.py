"""Digests of settings and files, by which a run is told from another."""

from __future__ import annotations

from hashlib import file_digest, sha256
from pathlib import Path


def digest(*values: object) -> str:
    """Compute a digest of values whose `repr` says all of them: numbers, strings, settings."""
    return sha256(repr(values).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Compute a digest of a file's content."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()

"""The keys of clients, by name: read from a file or a string, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
from pathlib import Path

from .._lines import read_text
from ..errors import ConfigurationError, InputError
from .refusals import Unauthorized

logger = logging.getLogger(__name__)

SHORTEST_KEY = 16
"""Minimum characters of a key; a shorter one could be found by trying."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_COMMENT = re.compile(r"(?:^|\s)#.*")
"""A comment in a file; a `#` within a key begins none."""


class Keys:
    """The keys of clients; without any, every request is allowed.

    Args:
        line: `name:key` pairs separated by commas.
        file: File with one pair per line. `#` begins a comment at the start of a line or after a
            blank. The file is read again when it has changed; if that fails, the keys do not
            change, and a warning is logged.

    Raises:
        ConfigurationError: A pair cannot be read, a name occurs twice, a key is too short, or
            `line` or the file holds no pair.
    """

    def __init__(self, line: str = "", file: Path | None = None) -> None:
        self._fixed = _parse(line.split(","), "keys")
        if line and not self._fixed:
            # Not as if there were no line: the service would be open to everyone.
            raise ConfigurationError("keys: holds no keys; write NAME:KEY, or leave it out")
        self._file = file
        self._state: object = None
        self._from_file: dict[str, bytes] = {}
        if file is not None:
            self._state = _state_of(file)
            self._from_file = _read(file)
            self._check_names(self._from_file)

    @property
    def required(self) -> bool:
        """True if a key is needed."""
        return self._file is not None or bool(self._fixed)

    def name_of(self, authorization: str | None) -> str | None:
        """Return the name of a key; None if no key is needed.

        Args:
            authorization: Value of the Authorization header, `Bearer` and the key.

        Raises:
            Unauthorized: The key is missing or unknown.
        """
        if not self.required:
            return None
        self._read_again_if_changed()
        scheme, _, key = (authorization or "").strip().partition(" ")
        if not key.strip():
            raise Unauthorized(
                "send the header Authorization: Bearer and your key", "AUTH_MISSING_API_KEY"
            )
        if scheme.lower() != "bearer":
            raise Unauthorized("the Authorization header must begin with Bearer")
        digest = _digest(key.strip())
        found = None
        # All keys are compared, so that the time does not reveal how near a guess is.
        for name, known in {**self._fixed, **self._from_file}.items():
            if hmac.compare_digest(digest, known):
                found = name
        if found is None:
            raise Unauthorized("the key is not known here")
        return found

    def _read_again_if_changed(self) -> None:
        if self._file is None:
            return
        try:
            state = _state_of(self._file)
            if state == self._state:
                return
            # Before the file is read: an unreadable one is read again only after another change.
            self._state = state
            found = _read(self._file)
            self._check_names(found)
        except ConfigurationError as error:
            logger.warning("the keys stay as they were: %s", error)
            return
        self._from_file = found
        logger.info("read %d keys", len(found))

    def _check_names(self, found: dict[str, bytes]) -> None:
        both = sorted(set(found) & set(self._fixed))
        if both:
            raise ConfigurationError(f"{self._file}: the name {both[0]!r} is among keys, too")


def _state_of(file: Path) -> object:
    """Return a value that changes when the file does; None if there is no file."""
    try:
        state = os.stat(file)  # noqa: PTH116 - a third of the time of Path.stat, at every request
    except OSError:
        return None
    # The time of the last change of the permissions, too: it may be readable now.
    return state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_size


def _read(file: Path) -> dict[str, bytes]:
    try:
        text = read_text(file)
    except InputError as error:
        raise ConfigurationError(str(error)) from None
    found = _parse([_COMMENT.sub("", line) for line in text.splitlines()], str(file))
    if not found:
        raise ConfigurationError(f"{file}: holds no keys")
    return found


def _parse(pairs: list[str], where: str) -> dict[str, bytes]:
    """Parse pairs to digests by name. No error quotes a pair, which may be a key without a name."""
    found: dict[str, bytes] = {}
    for number, pair in enumerate(pairs, 1):
        if not pair.strip():
            continue
        name, colon, key = pair.strip().partition(":")
        key = key.strip()
        if not colon or not _NAME.fullmatch(name):
            raise ConfigurationError(f"{where}: number {number} is not a name, a colon and a key")
        if name in found:
            raise ConfigurationError(f"{where}: the name in number {number} is there twice")
        if len(key) < SHORTEST_KEY or not key.isascii() or " " in key:
            raise ConfigurationError(
                f"{where}: the key in number {number} must have {SHORTEST_KEY} ASCII characters "
                "or more, and no blanks"
            )
        found[name] = _digest(key)
    return found


def _digest(key: str) -> bytes:
    # Digests have equal length, as a comparison in constant time requires, and no key stays in
    # memory.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()

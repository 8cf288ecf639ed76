"""Keys: where they come from, and how they stay out of everything that can be read later."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ...errors import AuthenticationError, ConfigurationError

KEY_VARIABLES = ("JINA_API_KEY", "JINAAI_API_KEY")
"""Where a key of Jina's is looked for. The second is what the official LlamaIndex integration
reads."""

HIDDEN = "***"
_SHORTEST_SECRET = 8  # a header such as "X-Version: 1" must not blot out every 1 in a message


class Secrets:
    """The headers that a request needs and nobody may see: the key, and whatever else was given.

    It shows the names of headers, never their values, and pickles as nothing.

    Args:
        api_key: The key, or None for the first of `variables` that is set.
        headers: More headers to send.
        variables: Environment variables to look in.

    Raises:
        AuthenticationError: The key is empty or holds characters that no key has.
        ConfigurationError: A header is malformed.
    """

    def __init__(
        self,
        api_key: str | None,
        headers: Mapping[str, str] | None = None,
        variables: tuple[str, ...] = (),
    ) -> None:
        self._headers = {
            name: _check_header(name, value) for name, value in (headers or {}).items()
        }
        self._variables = variables
        self._lost: str | None = None
        if api_key is None:
            self._find_key()
        else:
            self._key: str | None = _check_key(api_key, "api_key")
            self._source = "api_key"

    @property
    def variables(self) -> tuple[str, ...]:
        """Where a key that was not given is looked for."""
        return self._variables

    @property
    def has_key(self) -> bool:
        """Whether there is a key to send."""
        return self._key is not None

    def headers(self) -> dict[str, str]:
        """The headers to send, values and all.

        Raises:
            ConfigurationError: A pickle left out what was given.
        """
        if self._lost is not None:
            raise ConfigurationError(
                f"{self._lost} of this scorer did not go into its pickle; build the scorer anew in "
                "this process, or give the key by the environment"
            )
        authorization = {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
        return {**authorization, **self._headers}

    def hide(self, text: str) -> str:
        """The text without the key and without the values of the headers."""
        for secret in self._worth_hiding():
            text = text.replace(secret, HIDDEN)
        return text

    def hide_bytes(self, body: bytes) -> bytes:
        """`hide`, for what has not been decoded yet."""
        for secret in self._worth_hiding():
            body = body.replace(secret.encode(), HIDDEN.encode())
        return body

    def _worth_hiding(self) -> list[str]:
        """Longest first, so that no part of a secret within another is left over."""
        secrets = [self._key or "", *self._headers.values()]
        long = [secret for secret in secrets if len(secret) >= _SHORTEST_SECRET]
        return sorted(long, key=len, reverse=True)

    def __repr__(self) -> str:
        shown = ["no key" if self._key is None else f"key from {self._source}", *self._headers]
        return f"<{', '.join(shown)}>"

    def __getstate__(self) -> dict[str, object]:
        # A pickle goes to files and to other machines. The environment of whoever reads it can
        # provide a key; nothing can provide headers.
        lost = self._lost
        if self._headers:
            lost = "the headers"
        elif self._key is not None and self._source == "api_key":
            lost = lost or "the key"
        return {"_variables": self._variables, "_lost": lost}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._headers = {}
        self._variables = state["_variables"]
        self._lost = state["_lost"]
        self._find_key()
        if self._key is not None and self._lost == "the key":
            self._lost = None

    def _find_key(self) -> None:
        self._key, self._source = None, ""
        for variable in self._variables:
            if value := os.environ.get(variable):
                self._key, self._source = _check_key(value, variable), variable
                return


def _check_key(key: object, source: str) -> str:
    if not isinstance(key, str):
        raise AuthenticationError(f"{source} must be a string, not {type(key).__name__}")
    if not key:
        raise AuthenticationError(f"{source} is empty; pass the key, or leave it out")
    # Such a key would fail inside the HTTP library, whose message would quote it.
    if not key.isascii() or not key.isprintable() or " " in key:
        raise AuthenticationError(
            f"{source} holds white space or characters that no key has; was it copied whole, "
            "without the line's end?"
        )
    return key


def _check_header(name: object, value: object) -> str:
    if not isinstance(name, str) or not isinstance(value, str):
        raise ConfigurationError("headers must be a dictionary of strings")
    if not name or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        raise ConfigurationError("headers: a name has letters, digits, - and _ only")
    if not value.isascii() or not value.isprintable():
        raise ConfigurationError(f"headers: the value of {name} is not printable ASCII")
    return value

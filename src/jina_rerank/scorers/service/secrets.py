"""Keys: where they come from, and how they stay out of everything that can be read later."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NoReturn

from ...errors import AuthenticationError, ConfigurationError, RerankError

KEY_VARIABLES = ("JINA_API_KEY", "JINAAI_API_KEY")
"""Where a key of Jina's is looked for. The second is what the official LlamaIndex integration
reads."""

HIDDEN = "***"
_SHORTEST_SECRET = 8  # a header such as "X-Version: 1" must not blot out every 1 in a message


class ApiKey:
    """A key that can be handed around without being seen in what shows variables.

    Args:
        value: The key, or what was given for one.
    """

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    @classmethod
    def wrap(cls, key: str | ApiKey) -> ApiKey:
        """A key that may be wrapped already."""
        return key if isinstance(key, ApiKey) else cls(key)

    def reveal(self) -> str:
        """The key."""
        assert isinstance(self._value, str)
        return self._value

    def problem(self) -> str | None:
        """The problem with the key, without quoting it, or None."""
        if not isinstance(self._value, str):
            return f"must be a string, not {type(self._value).__name__}"
        if not self._value:
            return "is empty; pass the key, or leave it out"
        # Such a key would fail inside the HTTP library, whose message would quote it.
        if not self._value.isascii() or not self._value.isprintable() or " " in self._value:
            return (
                "holds white space or characters that no key has; was it copied whole, without "
                "the line's end?"
            )
        return None

    def __repr__(self) -> str:
        return f"ApiKey({HIDDEN})"

    def __reduce__(self) -> NoReturn:
        raise ConfigurationError("a key does not go into a pickle")


class Secrets:
    """The headers that a request needs and nobody may see: the key, and whatever else was given.

    It shows the names of headers, never their values, and pickles without either.

    Args:
        api_key: The key, or None for the first of `variables` that is set.
        headers: More headers to send.
        variables: Environment variables to look in.
    """

    def __init__(
        self,
        api_key: str | ApiKey | None,
        headers: Mapping[str, str] | None = None,
        variables: tuple[str, ...] = (),
    ) -> None:
        self._key: ApiKey | None = None
        self._source = ""
        self._variables = variables
        self._lost: str | None = None
        self._problem = _problem_of(headers)
        self._headers = {} if self._problem else dict(headers or {})
        if api_key is None:
            self._find_key()
        else:
            self._take(ApiKey.wrap(api_key), "api_key")

    def check(self) -> None:
        """Raise what there is to say against the key or the headers.

        Apart from building, so that the caller can let go of what was given in between.

        Raises:
            AuthenticationError: The key is empty or holds characters that no key has.
            ConfigurationError: A header is malformed.
        """
        if self._problem is not None:
            raise self._problem

    @property
    def variables(self) -> tuple[str, ...]:
        """Where a key that was not given is looked for."""
        return self._variables

    @property
    def has_key(self) -> bool:
        """Tell whether there is a key to send."""
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
        if self._key is None:
            return dict(self._headers)
        return {"Authorization": f"Bearer {self._key.reveal()}", **self._headers}

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
        secrets = list(self._headers.values())
        if self._key is not None:
            secrets.append(self._key.reveal())
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
        self._problem = None
        self._find_key()
        self.check()
        if self._key is not None and self._lost == "the key":
            self._lost = None

    def _find_key(self) -> None:
        self._key, self._source = None, ""
        for variable in self._variables:
            if os.environ.get(variable):
                self._take(ApiKey(os.environ[variable]), variable)
                return

    def _take(self, key: ApiKey, source: str) -> None:
        if problem := key.problem():
            self._problem = AuthenticationError(f"{source} {problem}")
        else:
            self._key, self._source = key, source


def _problem_of(headers: object) -> RerankError | None:
    """The problem with headers, without quoting a value, or None."""
    if headers is None:
        return None
    if not isinstance(headers, Mapping):
        return ConfigurationError("headers must be a dictionary of strings")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            return ConfigurationError("headers must be a dictionary of strings")
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            return ConfigurationError("headers: a name has letters, digits, - and _ only")
        if not value.isascii() or not value.isprintable():
            return ConfigurationError(f"headers: the value of {name} is not printable ASCII")
    return None

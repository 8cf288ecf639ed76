"""Keys and secret headers: their sources, and their protection from logs, errors and pickles."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from ...errors import AuthenticationError, ConfigurationError, RerankError

KEY_VARIABLES = ("JINA_API_KEY", "JINAAI_API_KEY")
"""Environment variables for a key of Jina's. The second is the one that the official LlamaIndex
integration reads."""

HIDDEN = "***"
_SHORTEST_SECRET = 8  # a header such as "X-Version: 1" must not blot out every 1 in a message
_BETWEEN_PARTS = re.compile(r"[\s=;,]+")
"""Separators in the value of a header, such as `Bearer KEY` and `session=KEY; theme=dark`."""


class ApiKey:
    """A key whose value does not show where variables are shown, as in tracebacks.

    Args:
        value: The key as it was given, even if it is not usable.
    """

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    @classmethod
    def wrap(cls, key: str | ApiKey) -> ApiKey:
        """Wrap a key, unless it is wrapped already."""
        return key if isinstance(key, ApiKey) else cls(key)

    def reveal(self) -> str:
        """Return the key itself."""
        assert isinstance(self._value, str)
        return self._value

    def problem(self) -> str | None:
        """Describe the problem with the key, without quoting it; None if there is none."""
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
    """The secret headers of a request: the key, and the headers that were given.

    The repr shows the names of headers, never their values; a pickle has neither.

    Args:
        api_key: The key, or None for the first of `variables` that is set.
        headers: More headers to send.
        variables: Environment variables that may hold the key.
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
        """Raise the error for an unusable key or header, if there is one.

        Separate from the constructor, so that the caller can first delete the key from its locals.

        Raises:
            AuthenticationError: The key is empty or holds characters that no key has.
            ConfigurationError: A header is malformed.
        """
        if self._problem is not None:
            raise self._problem

    @property
    def variables(self) -> tuple[str, ...]:
        """Environment variables that may hold the key if none is given."""
        return self._variables

    @property
    def has_key(self) -> bool:
        """Tell whether there is a key to send."""
        return self._key is not None

    def headers(self) -> dict[str, str]:
        """Get the headers to send, with their values.

        Raises:
            ConfigurationError: The key or the headers were left out of a pickle.
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
        """Remove the key and the values of the headers from a text."""
        return self.hide_bytes(text.encode("utf-8", "surrogatepass")).decode(
            "utf-8", "surrogatepass"
        )

    def hide_bytes(self, body: bytes) -> bytes:
        """`hide` for bytes."""
        for secret in self._worth_hiding():
            body = hide_secret(body, secret)
        return body

    def _worth_hiding(self) -> list[str]:
        """List the secrets, longest first, so that a secret within another leaves no rest of it."""
        secrets = {*self._headers.values()}
        for value in self._headers.values():
            # A service may send a key back without its scheme, or one cookie of several.
            secrets.update(_BETWEEN_PARTS.split(value))
        if self._key is not None:
            secrets.add(self._key.reveal())
        long = [secret for secret in secrets if len(secret) >= _SHORTEST_SECRET]
        return sorted(long, key=len, reverse=True)

    def __repr__(self) -> str:
        shown = ["no key" if self._key is None else f"key from {self._source}", *self._headers]
        return f"<{', '.join(shown)}>"

    def __getstate__(self) -> dict[str, object]:
        # A pickle goes to files and to other machines. Where it is read, the environment can
        # provide a key, but not headers.
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


def hide_secret(body: bytes, secret: str) -> bytes:
    """Remove a secret from a text, in each spelling that JSON has for it.

    Some services put a backslash before each slash, or write `+` and `=` by their codes; a gateway
    may quote the JSON of a service within its own.
    """
    spelling = "".join(map(_spelling, secret))
    return re.sub(spelling.encode(), HIDDEN.encode(), body)


def _spelling(character: str) -> str:
    """Write the pattern of a character in a text, in JSON, and in JSON within JSON."""
    escapes = r"\\{0,3}" if character in '"/\\' else ""
    code = f"{ord(character):04x}"
    return f"(?:{escapes}{re.escape(character)}|\\\\{{1,3}}u(?i:{code}))"


def _problem_of(headers: object) -> RerankError | None:
    """Describe the problem with headers, without quoting a value; None if there is none."""
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

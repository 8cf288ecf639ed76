"""Texts of others on a terminal: documents, queries, names and paths are untrusted data."""

from __future__ import annotations

import re

from rich.text import Text

# Unicode's category Cc without tab and line feed: a terminal obeys such characters.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: str) -> Text:
    """Return a text that a terminal shows as it is: without markup, emoji codes or control codes.

    Control characters become U+FFFD.
    """
    return Text(_CONTROL.sub("\ufffd", text))

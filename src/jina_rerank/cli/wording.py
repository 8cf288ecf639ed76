"""Conversion of the library's error messages, with names and values of Python, to shell options."""

from __future__ import annotations

import re

from ..errors import RerankError

_FLAGS = {
    "allow_anonymous": "--allow-anonymous",
    "candidates": "--depth",
    "cors_origins": "--cors-origin",
    "deadline": "--deadline",
    "depth": "--depth",
    "drain": "--drain",
    "dtype": "--dtype",
    "embeddings": "--embedding",
    "fallback": "--fallback",
    "first_stage": "--first-stage",
    "host": "--host",
    "idle_unload": "--idle-unload",
    "key_file": "--key-file",
    "log_level": "--log-level",
    "long_documents": "--long-documents",
    "max_body_bytes": "--max-body-bytes",
    "max_documents": "--max-documents",
    "max_length": "--max-length",
    "max_queued_tokens": "--max-queued-tokens",
    "max_request_tokens": "--max-request-tokens",
    "measures": "--measure",
    "models": "--model",
    "port": "--port",
    "precision": "--precision",
    "queries": "--queries",
    "revision": "--revision",
    "root_path": "--root-path",
    "ssl_certfile": "--ssl-certfile",
    "ssl_keyfile": "--ssl-keyfile",
    "suite": "--suite",
    "threshold": "--threshold",
    "top_n": "--top-n",
    "unix_socket": "--unix-socket",
    "until": "--until",
}
"""Flags by the library's names. They are replaced only at the beginning of a message, where the
argument is named: elsewhere, and behind the name of a file, the word may mean something else."""

_FAULT = re.compile(rf"\A({'|'.join(_FLAGS)})(?=:| must| cannot| is )")

_REMEDIES = (
    (r",? or None for all", ""),
    (r"; pass a number or None", "; pass a number, or leave it out"),
    (r"must be a (.*) or None\b", r"must be a \1"),
    (r'long_documents="(\w+)" or "(\w+)"', r"--long-documents \1 or \2"),
    (r'use text\.replace\("\\0", ""\)', r"take it out, as tr -d '\\0' does"),
    (
        r'use text\.encode\("utf-8", "replace"\)\.decode\(\)',
        "take it out, as iconv -c does",
    ),
    (r"set key_file or keys, or allow_anonymous if", "pass --key-file, or --allow-anonymous if"),
)
"""Patterns of remedies in Python, with their replacements for a shell."""


def shell_words(error: RerankError) -> str:
    """Return the error's message for the user of a command."""
    message = _FAULT.sub(lambda found: _FLAGS[found[1]], str(error))
    for python, shell in _REMEDIES:
        message = re.sub(python, shell, message)
    return message

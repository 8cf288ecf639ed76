"""The page about the API: the service's OpenAPI description as HTML, without scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

Schema = Mapping[str, Any]

REFERENCE = "#/components/schemas/"

HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>API of jina-rerank</title>
<link rel="icon" href="icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="style.css">
</head>
<body>
<header class="top">
  <h1>jina-rerank <span>API</span></h1>
  <a href="../openapi.json">openapi.json</a>
</header>
<main class="page">
<p>A service with keys expects <code>Authorization: Bearer KEY</code>. Bodies are JSON.
  <a href="../">Back to the playground</a></p>
"""


def api_page(description: Schema) -> str:
    """Write the page.

    Args:
        description: An OpenAPI 3.1 document, as FastAPI generates it.
    """
    schemas: Schema = description["components"]["schemas"]
    # Operations that differ only in their path share a section.
    paths: dict[str, list[str]] = {}
    operations: dict[str, Schema] = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            key = f"{method} {operation['summary']}"
            operations[key] = operation
            paths.setdefault(key, []).append(f"{method.upper()} {path}")
    sections = (
        line for key in operations for line in _section(operations[key], paths[key], schemas)
    )
    return HEAD + "\n".join(sections) + "\n</main>\n</body>\n</html>\n"


def _section(operation: Schema, paths: list[str], schemas: Schema) -> Iterator[str]:
    yield f"<section><h2>{escape(operation['summary'])}</h2>"
    yield "<p>" + ", ".join(f"<code>{escape(path)}</code>" for path in paths) + "</p>"
    for schema in _bodies(operation, schemas):
        yield from _fields(schema)
        for example in schema.get("examples", [])[:1]:
            text = json.dumps(example, indent=1, ensure_ascii=False)
            # Focusable, so that a keyboard can scroll it.
            yield f'<pre tabindex="0">{escape(text)}</pre>'
    statuses = ", ".join(escape(status) for status in operation["responses"])
    yield f'<p class="quiet">Answers: {statuses}</p></section>'


def _bodies(operation: Schema, schemas: Schema) -> list[Schema]:
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    return [schemas[name] for name in _names(schema)]


def _names(schema: Schema) -> Iterator[str]:
    if "$ref" in schema:
        yield schema["$ref"].removeprefix(REFERENCE)
    for choice in schema.get("oneOf", []):
        yield from _names(choice)


def _fields(schema: Schema) -> Iterator[str]:
    required = schema.get("required", [])
    described = _described_attributes(schema.get("description", ""))
    yield '<div class="scroll" tabindex="0"><table>'
    yield "<tr><th>field</th><th>type</th><th>description</th></tr>"
    for name, field in schema.get("properties", {}).items():
        kind = _kind(field) + ("" if name in required else ", optional")
        text = field.get("description") or described.get(name, "")
        yield (
            f"<tr><td><code>{escape(name)}</code></td><td>{escape(kind)}</td>"
            f"<td>{_with_code(text)}</td></tr>"
        )
    yield "</table></div>"


def _with_code(text: str) -> str:
    """Escape a text, and set what is between backquotes as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _described_attributes(docstring: str) -> dict[str, str]:
    """Return the descriptions under `Attributes:` of a Google-style docstring, by name."""
    described: dict[str, str] = {}
    name = ""
    for line in docstring.partition("Attributes:\n")[2].splitlines():
        if line.startswith("     "):
            described[name] += f" {line.strip()}"
        elif ":" in line:
            name, _, text = line.strip().partition(":")
            described[name] = text.strip()
    return described


def _kind(field: Schema) -> str:
    """Return the name of a field's type in JSON."""
    if "$ref" in field:
        return "object"
    if "enum" in field or "const" in field:
        values = field.get("enum", [field.get("const")])
        return " or ".join(json.dumps(value) for value in values)
    for group in ("anyOf", "oneOf"):
        if group in field:
            kinds = [_kind(choice) for choice in field[group]]
            return " or ".join(dict.fromkeys(kind for kind in kinds if kind != "null"))
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    return str(field.get("type", "any"))

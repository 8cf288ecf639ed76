"""Reports of an evaluation: tables, Markdown, HTML and JSON."""

from .html import evaluation_html
from .markdown import collections_markdown, summary_markdown
from .summary import Figure, Row, Summary, read_summary, write_per_query, write_summary

__all__ = [
    "Figure",
    "Row",
    "Summary",
    "collections_markdown",
    "evaluation_html",
    "read_summary",
    "summary_markdown",
    "write_per_query",
    "write_summary",
]

"""Read manual pages, HTML and POD, as plain text in sections, for build_manuals.py."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser

HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
BLOCKS = HEADINGS | frozenset(
    ("p", "div", "section", "dl", "dt", "dd", "ul", "ol", "li", "table", "tr", "blockquote", "br")
)
SILENT = frozenset(("script", "style", "nav", "button"))


@dataclass(frozen=True)
class Section:
    """A heading and the text below it, up to the next heading of any level.

    Attributes:
        heading: One line; empty before a page's first heading.
        body: Paragraphs with an empty line between them.
    """

    heading: str
    body: str

    @property
    def text(self) -> str:
        """Heading and body."""
        return f"{self.heading}\n\n{self.body}".strip()

    @property
    def length(self) -> int:
        """Characters of heading and body."""
        return len(self.heading) + len(self.body)


class _Reader(HTMLParser):
    """Gathers sections. Space is collapsed but for that in `pre`, where it is the layout."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.sections: list[Section] = []
        self._heading = ""
        self._blocks: list[str] = []
        self._block = ""
        self._in: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in HEADINGS:
            self._end_section()
        elif tag in BLOCKS or tag == "pre":
            self._end_block()
        if tag in SILENT or tag in HEADINGS or tag == "pre":
            self._in[tag] = self._in.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        if tag in HEADINGS:
            self._heading, self._block = _one_line(self._block), ""
        elif tag in BLOCKS or tag == "pre":
            self._end_block()
        if self._in.get(tag):
            self._in[tag] -= 1

    def handle_data(self, data: str) -> None:
        if not any(self._in.get(tag) for tag in SILENT):
            self._block += data

    def close(self) -> None:
        super().close()
        self._end_section()

    def _end_block(self) -> None:
        block = self._block.strip("\n").rstrip() if self._in.get("pre") else _one_line(self._block)
        if block.strip():
            self._blocks.append(block)
        self._block = ""

    def _end_section(self) -> None:
        self._end_block()
        if self._heading or self._blocks:
            self.sections.append(Section(self._heading, "\n\n".join(self._blocks)))
        self._heading, self._blocks = "", []


def read_html(
    page: str, *, begin: str = "<body", end: str = "</body", question: str | None = None
) -> tuple[str, list[Section]]:
    """Read a page's text, without menus, contents and marks.

    Args:
        page: HTML.
        begin: What stands right before the text, at its last occurrence.
        end: What stands right after it.
        question: A regular expression of what shall be taken for a heading, with one group.

    Returns:
        The title and the sections.
    """
    title = re.search(r"<title>(.*?)</title>", page, re.DOTALL)
    _, _, text = page.rpartition(begin)
    text, _, _ = text.partition(end)
    text = text[text.find(">") + 1 :]
    text = re.sub(r'<a class="headerlink".*?</a>', "", text, flags=re.DOTALL)
    if question:
        text = re.sub(question, r"<h3>\1</h3>", text, flags=re.DOTALL)
    reader = _Reader()
    reader.feed(text)
    reader.close()
    sections = [Section(_unnumbered(s.heading), s.body) for s in reader.sections]
    return _one_line(unescape(title[1])) if title else "", sections


def read_pod(page: str) -> tuple[str, list[Section]]:
    """Read Perl's Plain Old Documentation.

    Args:
        page: Its source, see perlpod.

    Returns:
        The title, which is the line below NAME, and the sections.
    """
    sections: list[Section] = []
    heading, blocks, in_pod = "", list[str](), False
    for paragraph in re.split(r"\n[ \t]*\n", page):
        stripped = paragraph.strip("\n")
        command = re.match(r"=(\w+)\s*(.*)", stripped, re.DOTALL)
        if command:
            in_pod = command[1] not in {"begin", "cut"}
            if command[1].startswith("head"):
                if heading or blocks:
                    sections.append(Section(heading, "\n\n".join(blocks)))
                heading, blocks = _pod_text(command[2]), []
            elif command[1] == "item" and command[2].strip(" *\n"):
                blocks.append(_pod_text(command[2]))
        elif in_pod and stripped.strip():
            verbatim = stripped[0] in " \t"
            blocks.append(stripped.rstrip() if verbatim else _pod_text(stripped))
    sections.append(Section(heading, "\n\n".join(blocks)))
    title = next((s.body for s in sections if s.heading == "NAME"), "")
    return title.split("\n", maxsplit=1)[0], [s for s in sections if s.heading != "NAME"]


_ENTITIES = {"lt": "<", "gt": ">", "verbar": "|", "sol": "/"}


def _pod_text(paragraph: str) -> str:
    """The paragraph without formatting codes, on one line."""
    text, before = paragraph, ""
    text = re.sub(
        r"E<(\w+)>",
        lambda m: _ENTITIES.get(m[1], "").replace("<", "\x01").replace(">", "\x02"),
        text,
    )
    text = re.sub(
        r"([A-Z])<<+\s+(.*?)\s+>>+", lambda m: f"{m[1]}<{_hidden(m[2])}>", text, flags=re.DOTALL
    )
    while text != before:  # from the inside out: codes may be nested
        before = text
        text = re.sub(r"([A-Z])<([^<>]*)>", _pod_code, text)
    return _one_line(text.replace("\x01", "<").replace("\x02", ">"))


def _hidden(text: str) -> str:
    return text.replace("<", "\x01").replace(">", "\x02")


def _pod_code(code: re.Match[str]) -> str:
    letter, text = code[1], code[2]
    if letter in "XZ":
        return ""
    if letter == "L":
        shown, _, target = text.rpartition("|")
        return shown or target.split("/", maxsplit=1)[0].strip() or target.strip('/"')
    return text


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _unnumbered(heading: str) -> str:
    return re.sub(r"^(\d+\.)+\s*", "", heading)

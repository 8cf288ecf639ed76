"""HTML and SVG as trees of elements, so that no text can become mark-up.

Documents and queries are untrusted data. No HTML is built by joining strings: the serializer
escapes every text and attribute.
"""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, tostring

# Characters that no HTML document may hold.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def h(tag: str, *children: Element | str | None, **attributes: str | float) -> Element:
    """Create an element.

    Args:
        tag: Name of the tag.
        children: Elements and texts; None is left out.
        attributes: Attributes by name. An underscore in a name stands for a hyphen, and one at its
            end is removed: `class_`, `text_anchor`, `viewBox`.
    """
    element = Element(
        tag, {name.rstrip("_").replace("_", "-"): _text(v) for name, v in attributes.items()}
    )
    for child in children:
        if isinstance(child, Element):
            element.append(child)
        elif child is not None and len(element):
            element[-1].tail = (element[-1].tail or "") + _text(child)
        elif child is not None:
            element.text = (element.text or "") + _text(child)
    return element


def page(root: Element) -> str:
    """Serialize the whole document."""
    return "<!DOCTYPE html>\n" + tostring(root, encoding="unicode", method="html") + "\n"


def _text(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return _FORBIDDEN.sub("\ufffd", str(value))

"""The playground's state: links, files, keys."""

from __future__ import annotations

import base64
import json
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chromium import Visit
from serving import LiveService, until

if TYPE_CHECKING:
    from playwright.sync_api import Route

pytestmark = pytest.mark.browser
Open = Callable[..., Visit]

KEY = "a-key-of-the-search-team"


def link_of(seen: Visit) -> str:
    seen.page.get_by_role("button", name="Copy link").click()
    field = seen.page.get_by_label("Link to")
    field.wait_for()
    return field.input_value()


def fragment(**state) -> str:
    """A link's fragment, written by somebody else than the page."""
    deflate = zlib.compressobj(wbits=-15)
    packed = deflate.compress(json.dumps(state).encode()) + deflate.flush()
    return "#1." + base64.urlsafe_b64encode(packed).decode().rstrip("=")


def test_a_link_has_all_of_it(service: LiveService, visit: Open) -> None:
    first = visit(service.url)
    texts = "Ein Käfer ist\nkein Bär.\n\n熊猫是熊 🐼"
    first.page.get_by_label("Query", exact=True).fill("Wo lebt der Bär?")
    first.page.get_by_label("Documents", exact=True).fill(texts)
    first.page.get_by_text("blank lines", exact=True).click()
    first.page.get_by_label("jina-rerank-mini").uncheck()
    first.page.get_by_label("small").check()
    address = link_of(first)
    assert address.startswith(f"{service.url}/#")

    second = visit(address)
    second.wait()
    assert second.page.get_by_label("Query", exact=True).input_value() == "Wo lebt der Bär?"
    assert second.page.get_by_label("Documents", exact=True).input_value() == texts
    assert second.ranking("small").count() == 2
    assert second.page.get_by_role("article").count() == 1, "the model of the link, no other"


def test_what_a_link_holds_goes_to_no_server_but_to_be_ranked(
    service: LiveService, visit: Open
) -> None:
    state = {"query": "q", "documents": "a\nb", "division": "lines", "models": ["small"]}
    seen = visit(f"{service.url}/{fragment(**state)}")
    seen.wait()
    log = [url.partition("#")[0] for url in seen.requests]
    names = ("script", "code", "documents", "example", "link", "ranking", "service")
    files = {f"{service.url}/playground/{name}.js" for name in names}
    files |= {f"{service.url}/playground/style.css", f"{service.url}/playground/icon.svg"}
    asked = {f"{service.url}/{path}" for path in ("", "v1/models", "playground/rank")}
    assert set(log) <= files | asked
    assert log.count(f"{service.url}/playground/rank") == 1


def test_a_link_that_is_opened_in_an_open_page(service: LiveService, visit: Open) -> None:
    seen = visit(service.url)
    state = {"query": "q", "documents": "a\nb\nc", "division": "lines", "models": ["small"]}
    seen.page.evaluate("address => { location.hash = address }", fragment(**state))
    seen.page.get_by_role("article", name="small").wait_for()
    assert seen.ranking("small").count() == 3


def test_an_edit_takes_the_link_out_of_the_address(service: LiveService, visit: Open) -> None:
    seen = visit(service.url)
    seen.type("q", ["a", "b"])
    link_of(seen)
    assert seen.page.evaluate("location.hash").startswith("#1.")
    seen.page.get_by_label("Query", exact=True).fill("another question")
    assert seen.page.evaluate("location.href") == f"{service.url}/"
    assert not seen.page.get_by_label("Link to").is_visible()
    seen.page.reload()
    seen.page.get_by_label("small").wait_for()
    assert seen.page.get_by_label("Query", exact=True).input_value() == ""
    assert seen.page.get_by_role("article").count() == 0


@pytest.mark.parametrize(
    ("text", "limit"),
    [(random.Random(0).randbytes(20_000).hex(), "16,000"), ("a" * 1_000_000, "1,000,000")],
    ids=["packed", "unpacked"],
)
def test_too_much_for_a_link_is_said(
    service: LiveService, visit: Open, tmp_path: Path, text: str, limit: str
) -> None:
    seen = visit(service.url)
    (tmp_path / "text.txt").write_text(text)
    seen.open_file(tmp_path / "text.txt")
    seen.page.get_by_text("1 document", exact=True).wait_for()
    seen.page.get_by_role("button", name="Copy link").click()
    seen.page.get_by_text("Too much for a link").wait_for()
    assert f"more than {limit} characters" in seen.say("alert")
    assert "#" not in seen.page.url


@pytest.mark.parametrize(
    "broken",
    [
        "#nonsense",
        "#1.AAAA",
        "#1.%%%",
        fragment(query="q", documents="a", division="lines", models=["small"])[:-9],
        fragment(query=["q"], documents="a", division="lines", models=[]),
        fragment(query="q", documents="a" * 2_000_000, division="lines", models=[]),
        fragment(query="q", documents="a", division="lines"),
    ],
)
def test_a_link_that_is_broken_is_said(service: LiveService, visit: Open, broken: str) -> None:
    seen = visit(f"{service.url}/{broken}")
    seen.page.get_by_text("This link cannot be read").wait_for()
    assert seen.page.get_by_label("Documents", exact=True).input_value() == ""


def test_a_link_to_a_model_that_is_not_there(service: LiveService, visit: Open) -> None:
    state = {"query": "q", "documents": "a", "division": "lines", "models": ["gone", 7]}
    seen = visit(f"{service.url}/{fragment(**state)}")
    seen.wait()
    assert seen.ranking("jina-rerank-mini").count() == 1
    seen.until("document.querySelector('#status').textContent.startsWith('Ranked')")
    note = seen.page.get_by_text("The link names a model that is not served here.")
    assert note.is_visible()
    seen.page.get_by_role("button", name="Example").click()
    assert not note.is_visible()


def test_limits_that_a_link_cannot_have_are_ignored(service: LiveService, visit: Open) -> None:
    state = {"query": "q", "documents": "a", "division": "lines", "models": ["small"]}
    seen = visit(f"{service.url}/{fragment(**state, top_n=0, threshold=5)}")
    seen.wait()
    for label in ("Keep the best", "Lowest score"):
        assert seen.page.get_by_label(label).input_value() == ""


def test_files_of_text_and_of_json_lines(service: LiveService, visit: Open, tmp_path: Path) -> None:
    seen = visit(service.url)
    texts = seen.page.get_by_label("Documents", exact=True)

    def open_file(name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        seen.open_file(tmp_path / name)

    open_file("some.txt", "\ufeffone\r\ntwo\r\n\r\nthree\n".encode())
    seen.page.get_by_text("3 documents").wait_for()
    rows = [{"text": "a panda\n\nis a bear"}, {"_id": "7", "text": "the second"}]
    open_file("some.jsonl", "\n".join(map(json.dumps, rows)).encode())
    seen.page.get_by_text("2 documents").wait_for()
    assert texts.input_value() == "a panda\nis a bear\n\nthe second"
    for name, content, said in [
        ("bad.jsonl", b'{"text": "a"}\n{"title": "b"}\n', 'line 2, has no string under "text"'),
        ("bad.ndjson", b"\n{text}\n", "line 2, is not JSON"),
        ("bad.txt", b"\xff\xfe\x00", "is not text in UTF-8"),
        ("big.txt", b"a" * 10_000_001, "has more than 10 MB"),
    ]:
        open_file(name, content)
        seen.page.get_by_text(said).wait_for()
        assert texts.input_value() == "a panda\nis a bear\n\nthe second", "as it was"
    open_file("some.txt", b"one")
    seen.page.get_by_text("1 document", exact=True).wait_for()
    assert seen.say("alert") == ""


def test_a_service_with_keys(visit: Open, small_checkpoint: Path) -> None:
    with LiveService(models=(f"small={small_checkpoint}",), keys=f"search:{KEY}") as service:
        seen = visit(service.url)
        field = seen.page.get_by_label("API key")
        field.wait_for()
        assert seen.say("alert") == ""
        seen.type("q", ["a", "b"])
        seen.page.get_by_role("button", name="Rank").click()
        seen.page.get_by_text("The service wants a key.").wait_for()
        field.fill("not-a-key-of-anybody")
        field.press("Enter")
        seen.page.get_by_text("The service does not know this key.").wait_for()
        field.fill("schlüssel")
        field.press("Enter")
        seen.page.get_by_text("A key has letters, digits and signs only.").wait_for()
        field.fill(f" {KEY}\t")  # as it may be copied
        field.press("Enter")
        seen.wait()
        assert seen.ranking("small").count() == 2
        assert seen.say("alert") == ""

        address = link_of(seen)
        kept = "JSON.stringify([localStorage, sessionStorage, document.cookie, history.state])"
        assert seen.page.evaluate(kept) == '[{},{},"",null]'
        again = visit(address)
        again.page.get_by_label("API key").wait_for()
        assert again.page.get_by_label("API key").input_value() == ""
        assert again.page.get_by_label("Query", exact=True).input_value() == "q"
        assert again.page.get_by_role("article").count() == 0
        again.page.get_by_label("API key").fill(KEY)
        again.rank()
        assert again.ranking("small").count() == 2
        # A key is no part of a link, so that typing one is no edit.
        assert again.page.evaluate("location.href") == address


def test_of_two_quick_requests_only_the_last_is_shown(visit: Open, small_checkpoint: Path) -> None:
    with LiveService(models=(f"small={small_checkpoint}",), keys=f"search:{KEY}") as service:
        seen = visit(service.url)
        field = seen.page.get_by_label("API key")
        field.wait_for()
        seen.type("q", ["a", "b"])
        held: list[Route] = []

        def hold(route: Route) -> None:
            held.append(route)

        seen.page.route("**/v1/models", hold)
        field.fill(KEY)
        for number in (1, 2):
            field.press("Control+Enter")
            until(lambda number=number: seen.page.evaluate("true") and len(held) == number)
        first, second = held
        second.continue_()
        seen.page.get_by_role("article").wait_for()
        seen.wait()
        # When the first has its list of models, the page writes it anew.
        seen.page.evaluate("document.querySelector('[name=model]').id = 'seconds'")
        first.continue_()
        seen.until("document.querySelector('[name=model]:not(#seconds)')")
        assert seen.page.locator("[aria-busy=true]").count() == 0
        assert seen.ranking("small").count() == 2
        assert "Ranked 2 documents." in seen.say("status")

"""Chromium without a screen, and what happens in it while a page is visited."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

NAMES = ("chromium", "chromium-browser", "google-chrome")

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

WATCH = """
window.violations = [];
window.moves = [];
addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
const animate = Element.prototype.animate;
Element.prototype.animate = function (keyframes, options) {
  window.moves.push({ index: this.dataset.index, from: keyframes.transform?.[0] });
  return animate.call(this, keyframes, options);
};
"""
"""Notes what a page may not do, and what moves on it; it runs before the page's own scripts."""

UNTIL = """
() => new Promise((resolve, reject) => {
  const end = performance.now() + 20_000;
  const look = () => {
    if (%s) resolve();
    else if (performance.now() > end) reject(new Error("it never did"));
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})
"""


def find_chromium() -> str | None:
    """Where this machine has one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """A Chromium, for the time of the block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=[*ARGUMENTS])
        yield browser
        browser.close()


PLAYGROUND_READY = (
    "document.querySelector('[name=model], #key-field:not([hidden]), .refused:not(:empty)')"
)
"""It has asked which models there are, or wants something first."""


class Visit:
    """A page in a window of its own, without what other visits left.

    Args:
        browser: Where.
        address: Address of the page.
        ready: An expression that holds when its scripts have run.
        options: For the browser's context, such as `color_scheme`.

    Attributes:
        page: Playwright's page.
        requests: The addresses of all requests that it made.
        errors: What its scripts raised and did not catch.
    """

    def __init__(
        self, browser: Browser, address: str, ready: str = PLAYGROUND_READY, **options: Any
    ) -> None:
        self._context = browser.new_context(**options)
        self._address = address
        self._ready = ready
        self.page = self._context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.add_init_script(WATCH)
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def __enter__(self) -> Self:
        self.page.goto(self._address)
        self.until(self._ready)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._context.close()

    @property
    def violations(self) -> list[str]:
        """Violations of the page's policy, which the browser refused."""
        return self.page.evaluate("window.violations")

    @property
    def foreign_requests(self) -> list[str]:
        """Requests to other hosts than the page's own."""
        origin = "/".join(self._address.split("/")[:3])
        return [
            url for url in self.requests if not url.startswith((f"{origin}/", f"blob:{origin}"))
        ]

    def type(self, query: str, documents: list[str]) -> None:
        """Fill the fields of the playground."""
        self.page.get_by_label("Query", exact=True).fill(query)
        self.page.get_by_label("Documents", exact=True).fill("\n".join(documents))

    def open_file(self, file: Path) -> None:
        """Open a file of documents in the playground."""
        self.page.get_by_label("Open a file").set_input_files(file)

    def rank(self) -> None:
        """Press the button and wait for all rankings."""
        self.page.get_by_role("button", name="Rank").click()
        self.wait()

    def wait(self) -> None:
        """Wait for all rankings, and for the end of their movement."""
        self.until(
            "document.querySelector('article') && !document.querySelector('[aria-busy=true]')"
            " && document.getAnimations().every((one) => one.playState === 'finished')"
        )

    def until(self, holds: str) -> None:
        """Wait until an expression holds; Playwright's own way evaluates strings in the page."""
        self.page.evaluate(UNTIL % holds)

    def ranking(self, model: str) -> Locator:
        """The items of a model's ranking, best first."""
        return self.page.get_by_role("article", name=model, exact=True).get_by_role("listitem")

    def order(self, model: str) -> list[int]:
        """The documents' numbers in a model's ranking, from 0."""
        return self.ranking(model).evaluate_all("items => items.map((i) => +i.dataset.index)")

    def say(self, role: str) -> str:
        """Text of the page's status or alert."""
        return self.page.get_by_role(role).inner_text()

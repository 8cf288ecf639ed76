"""Writes the pictures of the documentation's page about the playground.

    python tests/browser/pictures.py [FOLDER]

The times in them are this machine's; all else is the same each time.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from chromium import Visit, open_chromium  # noqa: E402
from serving import LiveService, until  # noqa: E402

from jina_rerank import LocalScorer, Reranker  # noqa: E402
from jina_rerank.server import ServedModel  # noqa: E402

SIZES = {"light": (1280, 880), "dark": (1280, 880), "phone": (390, 844)}

COLOURS = 96
"""Enough for text that is smooth at its edges, and a fifth of the bytes."""


def save(png: bytes, path: Path) -> None:
    """Write a picture with few colours."""
    picture = Image.open(BytesIO(png)).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def main(folder: Path) -> None:
    """Write all of them."""
    served = [
        ServedModel("jina-rerank-mini", Reranker(LocalScorer())),
        ServedModel("mini, 24 tokens", Reranker(LocalScorer(max_length=24))),
    ]
    with LiveService(served) as service, open_chromium() as browser:
        until(lambda: service.engine.ready)
        for name, (width, height) in SIZES.items():
            theme = "dark" if name == "dark" else "light"
            size = {"width": width, "height": height}
            with Visit(browser, service.url, color_scheme=theme, viewport=size) as seen:
                if name == "dark":
                    seen.page.get_by_label("mini, 24 tokens").check()
                seen.page.get_by_role("button", name="Example").click()
                seen.wait()
                # Once more: the first time is that of the first time.
                seen.rank()
                seen.page.wait_for_timeout(1000)  # a small screen scrolls to the ranking
                save(seen.page.screenshot(), folder / f"playground-{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "pictures")

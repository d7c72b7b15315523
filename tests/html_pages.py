"""What tests of pages share: a page's tags, what makes it whole in itself, and how a browser of a phone shows it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from html import escape, unescape
from html.parser import HTMLParser
from typing import Any

Browse = Callable[..., subprocess.CompletedProcess[str]]
LARGEST_BYTES = 5_000_000
PHONE_PX = 390
# Headless windows are never narrower than 500 px, so the page is measured in a frame as wide as a phone.
PROBE = """\
<!DOCTYPE html><html><body style="margin: 0">
<iframe style="width: {width}px; height: 800px; border: 0" srcdoc="{page}"></iframe>
<script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement
  page.querySelectorAll("details").forEach(e => e.open = true)
  document.title = JSON.stringify({{
    client: root.clientWidth, scroll: root.scrollWidth, font: getComputedStyle(page.body).fontSize,
    wide: [...page.querySelectorAll(".wide")].map(e => e.scrollWidth - e.clientWidth),
    images: [...page.images].map(i => [i.complete && i.naturalWidth > 0, i.getBoundingClientRect().width]),
  }})
}})
</script></body></html>
"""


class Page(HTMLParser):
    """Every tag with its attributes, and whether all are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def without_pictures(text: str) -> str:
    return re.sub(r"base64,[^\"]*", "", text)


def assert_whole(text: str) -> None:
    """The page is well-formed, not too large and needs nothing else."""
    assert len(text.encode()) < LARGEST_BYTES
    page = Page(text)
    assert not page.open
    assert not re.search(r"https?:|//|@import|url\(", without_pictures(text))
    assert not {"script", "iframe", "object", "embed", "video"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")


def shown_on_a_phone(browse: Browse, text: str) -> dict[str, Any]:
    """What a browser as wide as a phone makes of the page, all that is folded opened: no complaint, no overflow, and
    every picture fits. Returns what it measured."""
    run = browse(PROBE.format(width=PHONE_PX, page=escape(text)), "--dump-dom")
    assert ":CONSOLE" not in run.stderr
    title = re.search("<title>(.*?)</title>", run.stdout)
    assert title is not None, run.stderr
    found: dict[str, Any] = json.loads(unescape(title[1]))
    assert found["client"] == PHONE_PX
    assert found["scroll"] <= PHONE_PX
    assert found["font"] == "16px"
    assert len(found["images"]) == text.count("<img ")
    assert all(shown and 300 < width <= PHONE_PX for shown, width in found["images"])
    return found

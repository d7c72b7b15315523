"""What all pages consist of: one HTML file that needs nothing else, no network, no script, readable on a phone."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from string import Template

_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
:root { color-scheme: light; }
body { font: 1rem/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 46rem; margin: 0 auto;
  padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
p, ul { margin: .5rem 0; }
.verdict { list-style: none; padding: 0; }
.verdict li { border-left: .4rem solid #009E73; background: #eef7f4; padding: .4rem .7rem; margin: .4rem 0; }
.verdict li.bad { border-color: #D55E00; background: #fdf0e8; font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #555; padding: .2rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #ddd;
  overflow-wrap: break-word; }
th { font-weight: 600; }
figure { margin: 1.5rem 0; }
img { display: block; width: 100%; max-width: 36rem; height: auto; margin: 0 auto; }
figcaption { color: #333; font-size: .95rem; margin-top: .3rem; }
@media print { figure, tr { break-inside: avoid; } }
details { border-bottom: 1px solid #ddd; padding: .3rem 0; }
summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
details h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
.many td { min-width: 4rem; }
.wordy td { min-width: 6.5rem; }
.noted td:last-child { min-width: 16rem; }
.many th:first-child { position: sticky; left: 0; background: #fff; min-width: 5.5rem; max-width: 9rem; }
</style>
</head>
<body>
<header>
<h1>$heading</h1>
<p>$what</p>
</header>
<main>
$body
</main>
</body>
</html>
""")


def page(title: str, heading: str, what: str, sections: Iterable[str]) -> str:
    """A whole page; ``title`` is that of the browser's window, ``what`` the line below the heading."""
    return _PAGE.substitute(title=escape(title), heading=escape(heading), what=escape(what), body="\n".join(sections))


def section(title: str, content: str) -> str:
    """A part of a page under its own heading."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def folded(title: str, content: str) -> str:
    """A part that shows its title only until it is asked for."""
    return f"<details>\n<summary>{escape(title)}</summary>\n{content}\n</details>"


def bullets(texts: Iterable[str]) -> str:
    """A list of texts."""
    return "<ul>\n" + "\n".join(f"<li>{escape(text)}</li>" for text in texts) + "\n</ul>"


def verdicts(told: Iterable[tuple[bool, str]]) -> str:
    """Sentences, each with whether it says something good."""
    items = "\n".join(f'<li class="{"good" if good else "bad"}">{escape(text)}</li>' for good, text in told)
    return f'<ul class="verdict">\n{items}\n</ul>'


def table(head: Sequence[str], lines: Iterable[Sequence[str]], caption: str = "", style: str = "") -> str:
    """A table whose first column names the lines. By its style: ``many`` columns, which scroll in a box of their own
    beside the first; ``many wordy``, with texts in its cells; ``many noted``, with longer ones in the last column."""
    title = f"<caption>{escape(caption)}</caption>\n" if caption else ""
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for first, *cells in lines
    )
    # A box that scrolls must be reachable by keyboard.
    opening = f'<table class="{style}">' if style else "<table>"
    reachable = f' tabindex="0" role="region" aria-label="{escape(caption)}"' if style else ""
    return f'<div class="wide"{reachable}>{opening}\n{title}<tr>{names}</tr>\n{body}\n</table></div>'


def figure(identity: str, title: str, reading: str, kind: str, content: bytes) -> str:
    """A picture, ``kind`` svg or png, with its reading as caption and as text alternative."""
    data = base64.b64encode(content).decode()
    mime = {"svg": "svg+xml"}.get(kind, kind)
    title, reading = escape(title), escape(reading)
    return (
        f'<figure id="{identity}">\n<img alt="{title}: {reading}" src="data:image/{mime};base64,{data}">\n'
        f"<figcaption><strong>{title}.</strong> {reading}</figcaption>\n</figure>"
    )

"""What the page is made of: its style, figures, tables and notes. All text is escaped here, once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from edgekit.runtime.libricontinual.plots import DARK, LIGHT, Theme

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Nothing is fetched and nothing is executed, whatever stands in the page."""
_DASHES = ("none", "9 3", "3 2", "9 3 2 3", "14 4", "1.5 2.5")
"""Of the lines of each colour that have no markers."""


def _colours(theme: Theme) -> str:
    arms = " ".join(f"--a{index}: {colour};" for index, colour in enumerate(theme.arms))
    return f"--paper: {theme.background}; --ink: {theme.ink}; --faint: {theme.faint}; {arms}"


_STYLE = f"""
:root {{ color-scheme: light dark; {_colours(LIGHT)} --warn: #fff4d6; }}
@media (prefers-color-scheme: dark) {{ :root {{ {_colours(DARK)} --warn: #3a2f12; }} }}
body {{ background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 62rem; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; overflow-wrap: anywhere; }} h2 {{ font-size: 1.15rem; margin-top: 2.2rem; }}
h3 {{ font-size: 1rem; margin: 0 0 .4rem; }}
figure {{ margin: 1.6rem 0; }} figcaption {{ max-width: 46rem; }}
.chart {{ max-width: 100%; min-width: 34rem; height: auto; display: block; }}
.chart text {{ fill: var(--ink); font: 12px system-ui, sans-serif; }}
.chart .over {{ paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }}
.grid {{ stroke: var(--faint); stroke-width: .6; fill: none; }}
.axis {{ stroke: var(--ink); stroke-width: .8; fill: none; }}
.line, .whisker {{ fill: none; stroke-width: 1.7; stroke-linejoin: round; }} .whisker {{ stroke-width: 1.2; }}
{" ".join(f".dashed.a{i} {{ stroke-dasharray: {dashes}; }}" for i, dashes in enumerate(_DASHES))}
.bar {{ stroke: none; }}
.mark {{ stroke: var(--ink); stroke-width: 1; stroke-dasharray: 3 3; fill: none; }}
.interval {{ fill: var(--ink); opacity: .1; }} .shade {{ fill: var(--a1); opacity: .22; }}
{" ".join(f".line.a{i}, .whisker.a{i} {{ stroke: var(--a{i}); }}" for i in range(len(LIGHT.arms)))}
{" ".join(f".bar.a{i}, .a{i} .point {{ fill: var(--a{i}); }}" for i in range(len(LIGHT.arms)))}
.legend {{ list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; padding: 0; margin: .3rem 0;
  font-size: .85rem; }}
.legend li {{ overflow-wrap: anywhere; }} .key {{ vertical-align: -1px; margin-right: .35rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }}
th, td {{ border-bottom: 1px solid var(--faint); padding: .25rem .8rem .25rem 0; text-align: right;
  vertical-align: top; white-space: nowrap; }}
th.words, td.words {{ text-align: left; overflow-wrap: break-word; }}
td.words {{ max-width: 24rem; white-space: normal; }}
td svg {{ vertical-align: -1px; }}
small, .source {{ font-size: .8rem; opacity: .78; }}
.source {{ max-width: 46rem; margin: .3rem 0; overflow-wrap: anywhere; }}
.note {{ max-width: 46rem; overflow-wrap: anywhere; }}
.flags {{ background: var(--warn); border-left: 4px solid var(--a1); padding: .5rem 1rem; }}
.flags ul {{ margin: .3rem 0; padding-left: 1.2rem; }} .flags li {{ overflow-wrap: anywhere; }}
summary {{ cursor: pointer; font-weight: 600; overflow-wrap: anywhere; }}
details.point {{ margin-top: 1.6rem; border-top: 1px solid var(--faint); padding-top: .6rem; }}
@media print {{
  body {{ margin: 0; max-width: none; }} table {{ font-size: .7rem; }} td small {{ font-size: .6rem; }}
  .chart {{ min-width: 0; }} .wide {{ overflow: visible; }} small, .source {{ opacity: 1; }}
  .chart, .legend, .flags, tr {{ break-inside: avoid; }} h2, h3, summary {{ break-after: avoid; }}
  details:not(.point)::details-content {{ content-visibility: visible; block-size: auto; }}
}}
"""


def document(title: str, parts: Iterable[str]) -> bytes:
    """The whole page; `parts` are HTML."""
    head = (
        f'<meta charset=utf-8><meta http-equiv=Content-Security-Policy content="{_POLICY}">'
        f"<meta name=viewport content='width=device-width'><title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    page = f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"
    # bytes of a file's name that are no text
    return page.encode("utf-8", "xmlcharrefreplace")


def figure(title: str, drawn: str, note: str, sources: Sequence[str]) -> str:
    """A figure; `drawn` is HTML. `sources`: for each result how it was measured."""
    told = "".join(f"<p class=source>{escape(source)}</p>" for source in sources)
    caption = f"<figcaption>{escape(note)}{told}</figcaption>"
    return f"<figure><h3>{escape(title)}</h3>{drawn}{caption}</figure>"


def note(text: str) -> str:
    return f"<p class=note>{escape(text)}</p>"


def bullets(texts: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, words: Sequence[int] = (0,)) -> str:
    """`header` is text, cells are HTML; `words` are the columns that hold no numbers."""
    kinds = [" class=words" if index in words else "" for index in range(len(header))]
    head = "".join(f"<th scope=col{kind}>{escape(name)}</th>" for kind, name in zip(kinds, header))
    body = "".join(f"<tr>{''.join(f'<td{kind}>{cell}</td>' for kind, cell in zip(kinds, row))}</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def bar(share: float, series: int = 0) -> str:
    """HTML: a bar of `share` (0 to 1) of the width of its cell."""
    width = 100 * min(max(share, 0.0), 1.0)
    return (
        "<svg viewBox='0 0 100 10' preserveAspectRatio=none width=160 height=10 aria-hidden=true>"
        f"<rect class='bar a{series}' width='{width:.1f}' height=10 /></svg>"
    )

"""One self-contained HTML page: text, tables and PNG files become a single file that needs no network.

It knows nothing about what it shows; `study` decides that.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from sharding import atomic_file

STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; color: #222; background: #fff;
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .4rem; padding-top: .8rem; border-top: 1px solid #ddd; }
p { max-width: 46rem; margin: .4rem 0; }
.lead { color: #555; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .9rem .35rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid #e6e6e6; }
th { border-bottom: 2px solid #999; font-weight: 600; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 9rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; margin: .8rem 0; }
figure { margin: 0; flex: 1 1 18rem; min-width: 0; max-width: 30rem; }
figure.wide { flex-basis: 100%; max-width: none; }
figure img { display: block; width: auto; max-width: 100%; height: auto; }
figcaption { font-size: .85rem; color: #555; }
footer { margin-top: 3rem; padding-top: .8rem; border-top: 1px solid #ddd; font-size: .85rem; color: #555; }
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A heading row and rows of text; the first column is left-aligned."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG file and what it shows."""

    path: Path
    text: str
    wide: bool = False  # over the whole width, else beside others
    alt: str = ""  # what a reader is told who cannot see it, if not the text


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A heading, and under it, in this order, what is given of text, table and pictures."""

    title: str
    text: Sequence[str] = ()  # paragraphs
    table: Table | None = None
    pictures: Sequence[Picture] = ()


def write_page(path: Path, *, title: str, lead: str, sections: Sequence[Section], credit: str) -> None:
    """Write the page, its pictures inside it; all text is escaped."""
    body = "\n".join(_section(section) for section in sections)
    text = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n{body}\n'
        f"<footer>{escape(credit)}</footer>\n</body>\n</html>\n"
    )
    with atomic_file(path) as file:
        file.write(text.encode())


def _section(section: Section) -> str:
    parts = [f"<section>\n<h2>{escape(section.title)}</h2>"]
    parts += [f"<p>{escape(paragraph)}</p>" for paragraph in section.text]
    if section.table is not None:
        parts.append(_table(section.table))
    if section.pictures:
        parts.append(f'<div class="figures">{"".join(map(_picture, section.pictures))}</div>')
    return "\n".join([*parts, "</section>"])


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.head)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in table.rows)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>'


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.path.read_bytes()).decode()
    text, alt = escape(picture.text), escape(picture.alt or picture.text)
    kind = ' class="wide"' if picture.wide else ""
    return (
        f'<figure{kind}><img src="data:image/png;base64,{data}" alt="{alt}"><figcaption>{text}</figcaption></figure>\n'
    )

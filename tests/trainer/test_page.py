"""The page needs nothing but itself, and shows text as text."""

import base64
from html.parser import HTMLParser
from pathlib import Path

import pytest

from trainer.page import Picture, Section, Table, write_page

PNG = b"\x89PNG\r\n\x1a\n-not-really"
NASTY = '<script>alert("x")</script> & "z" < 1'


class Reader(HTMLParser):
    """Collects the elements and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def page(tmp_path: Path) -> Reader:
    (tmp_path / "a.png").write_bytes(PNG)
    sections = [
        Section(title=NASTY, text=[NASTY], table=Table([NASTY, "n"], [[NASTY, "3"]])),
        Section(title="pictures", pictures=[Picture(tmp_path / "a.png", NASTY, wide=True)]),
    ]
    write_page(tmp_path / "index.html", title=NASTY, lead=NASTY, sections=sections, credit=NASTY)
    reader = Reader()
    reader.feed((tmp_path / "index.html").read_text(encoding="utf-8"))
    return reader


def test_nothing_is_fetched(page: Reader) -> None:
    assert not {"script", "link", "iframe", "object", "a", "base"} & {tag for tag, _ in page.elements}
    addresses = [
        value for _, attrs in page.elements for name, value in attrs.items() if name in ("src", "href", "srcset")
    ]
    assert len(addresses) == 1
    kind, data = str(addresses[0]).split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == PNG
    style = "".join(page.text)
    assert "url(" not in style
    assert "@import" not in style


def test_text_is_shown_as_it_is(page: Reader) -> None:
    # title, heading, lead, section title, paragraph, table head, table cell, caption, credit
    assert sum(text == NASTY for text in page.text) == 9
    assert [attrs["alt"] for tag, attrs in page.elements if tag == "img"] == [NASTY]


def test_who_cannot_see_a_picture_is_told_more_where_there_is_more(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    picture = Picture(tmp_path / "a.png", "a curve", alt=f"it falls from 2 to 1 {NASTY}")
    write_page(tmp_path / "p.html", title="t", lead="", sections=[Section(title="s", pictures=[picture])], credit="")
    reader = Reader()
    reader.feed((tmp_path / "p.html").read_text(encoding="utf-8"))
    assert [attrs["alt"] for tag, attrs in reader.elements if tag == "img"] == [f"it falls from 2 to 1 {NASTY}"]
    assert "a curve" in reader.text


def test_it_fits_a_narrow_screen(page: Reader) -> None:
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.elements

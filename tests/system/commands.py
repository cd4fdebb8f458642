"""What README.md and cluster/README.md tell people to type, read out of the documents themselves.

A fenced block without a language holds commands, or is a drawing; one with a language is neither.

    python tests/system/commands.py

puts the beginning of what `python -m benchmarks plan` prints into cluster/README.md, where a marker is.
"""

import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "cluster/README.md")

_FENCED = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`((?:python -m|ray) [^`]+)`")
_COMMENT = re.compile(r"(^|\s+)# .*$", re.MULTILINE)
_DRAWINGS = ("survey frames ──", "DATASET/\n")
_PLAN = re.compile(r"<!-- plan -->\n(?P<told>.*?)<!-- end -->", re.DOTALL)
_PAGE = "cluster/README.md"
_COLUMNS = "110"


@dataclass(frozen=True)
class Command:
    """One line of a shell, joined where a backslash broke it."""

    document: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}: {self.text}"


def fenced(document: str, language: str = "") -> Iterator[str]:
    """The blocks of a language, in order."""
    for block in _FENCED.finditer(read(document)):
        if block["language"] == language:
            yield textwrap.dedent(block["text"])


def commands() -> list[Command]:
    """All of them, in the order in which they are read."""
    found = []
    for document in DOCUMENTS:
        for block in fenced(document):
            if not block.startswith(_DRAWINGS):
                lines = _COMMENT.sub("", re.sub(r" *\\\n\s*", " ", block)).splitlines()
                found += [Command(document, line.strip()) for line in lines if line.strip()]
    return found


def told(beginning: str, places: Mapping[str, str] | None = None) -> str:
    """The one command that begins so: where the documents have it more than once, they have it in the same words.

    ``places``: what stands here for names in it. ValueError where one is not in it, or no command or two begin so.
    """
    (text,) = {each.text for each in commands() if each.text.startswith(beginning)}
    for name, here in (places or {}).items():
        if name not in text:
            raise ValueError(f"{name} is not in: {text}")
        text = text.replace(name, here)
    return text


def inline() -> list[Command]:
    """Those that stand in a sentence and have options."""
    found = [
        Command(document, " ".join(text.split()))
        for document in DOCUMENTS
        for text in _INLINE.findall(_FENCED.sub("", read(document)))
    ]
    return [command for command in found if " --" in command.text]


def read(document: str) -> str:
    """Its text."""
    return (CHECKOUT / document).read_text()


def plan_told() -> str:
    """What the page shows of the plan."""
    return _PLAN.search(read(_PAGE))["told"]


def plan_printed() -> str:
    """What it should show: all that the command prints, as wide as the page, up to the sum of the times."""
    command = next(each.text for each in commands() if each.text.startswith("python -m benchmarks plan "))
    done = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]],
        cwd=CHECKOUT,
        env=os.environ | {"COLUMNS": _COLUMNS},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    last = next(number for number, line in enumerate(lines) if line.startswith("all "))
    return "\n".join(["```text", *lines[: last + 1], "```", ""])


if __name__ == "__main__":
    page = read(_PAGE)
    (CHECKOUT / _PAGE).write_text(_PLAN.sub(f"<!-- plan -->\n{plan_printed()}<!-- end -->", page))

"""Puts the figures of a result into README.md: what stands between markers is generated, never typed.

    <!-- bench results: benchmarks/results/FILE.json -->

    <!-- bench: NAME -->
    ...
    <!-- end -->

NAME is one of `blocks.BLOCKS`. What is generated is indented as the end marker is, so that it may stand in a list.
"""

import re
import textwrap
from pathlib import Path

from .blocks import BLOCKS, Source
from .errors import BenchmarkError
from .published import read_report

_BLOCK = re.compile(
    r"<!-- bench: (?P<name>\S+) -->\n(?P<old>.*?)^(?P<indent> *)<!-- end -->$", re.DOTALL | re.MULTILINE
)
_RESULT = re.compile(r"^<!-- bench results: (\S+) -->$", re.MULTILINE)
_MARK = re.compile(r"<!-- (?:bench: \S+|end) -->")
_WIDTH = 120


def source(readme: str, root: Path) -> Source:
    """The result that the README names; ``root`` is the README's folder."""
    named = _RESULT.findall(readme)
    if len(named) != 1:
        raise BenchmarkError(f"README.md: expected one line <!-- bench results: FILE -->, got {len(named)}")
    return Source(read_report(root / named[0]), named[0])


def generate(readme: str, source: Source) -> str:
    """The README with every block made anew; BenchmarkError where a marker is wrong."""
    marks, blocks = _MARK.findall(readme), list(_BLOCK.finditer(readme))
    if len(marks) != 2 * len(blocks):
        raise BenchmarkError("README.md: expected each <!-- bench: NAME --> to have its own line <!-- end -->")
    return _BLOCK.sub(lambda found: _made(found, source), readme)


def _made(found: re.Match[str], source: Source) -> str:
    name, indent = found["name"], found["indent"]
    if name not in BLOCKS:
        raise BenchmarkError(f"README.md: expected bench: with one of {', '.join(sorted(BLOCKS))}, got {name}")
    lines = [line for text in BLOCKS[name](source) for line in _wrapped(text, indent)]
    return "\n".join([f"<!-- bench: {name} -->", *lines, f"{indent}<!-- end -->"])


def _wrapped(text: str, indent: str) -> list[str]:
    """A paragraph or an item of a list in lines of the README's width; a row of a table stays whole."""
    if not text or text.startswith("|"):
        return [f"{indent}{text}".rstrip()]
    hanging = indent + ("  " if text.startswith("- ") else "")
    return textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
    )

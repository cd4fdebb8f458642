"""What a run will take, before it is paid for: sizes, times and costs of every stage, each with where it comes from.

A figure is measured (a result of a JSON that `python -m benchmarks` wrote), computed (in closed form, from settings and
from other figures) or assumed. Which it is stands beside it, so that a reader can put in what they know better.
"""

from .command import run

__all__ = ["run"]

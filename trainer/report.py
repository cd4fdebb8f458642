"""`python -m trainer report`: the page of a run, from what its folder holds now."""

import argparse
from pathlib import Path

from .runreport import write_run_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("run", type=Path, help="folder of a run, done or under way")


def run(args: argparse.Namespace) -> int:
    """Write the page and print where it is."""
    print(write_run_report(args.run))
    return 0

"""`python -m sharding info | verify DATASET`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from .dataset import Dataset
from .errors import DatasetError
from .info import summary
from .manifest import Manifest
from .verify import verify


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when all is well, 1 when `verify` found a fault, 2 for a user's error."""
    args = _parser().parse_args(argv)
    try:
        return int(args.command(args))
    except (DatasetError, OSError) as err:
        print(f"sharding: error: {err}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sharding", description="Look at a dataset on disk.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, text in (
        ("info", _info, "say what is in a dataset"),
        ("verify", _verify, "check every checksum and count; exit status 1 and a line for each fault"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("dataset", type=Path, help="folder that holds dataset.json")
        sub.set_defaults(command=command)
        if command is _info:
            sub.add_argument("--figure", type=Path, metavar="F.png", help="also draw 64 random stamps and the noise")
    return parser


def _info(args: argparse.Namespace) -> int:
    print(summary(args.dataset))
    if args.figure is not None:
        from .figure import write_figure

        write_figure(Dataset.open(args.dataset), args.figure)
        print(f"  figure      {args.figure}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    manifest = Manifest.read(args.dataset)
    faults = 0
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("verify", total=sum(shard.samples for shard in manifest.shards))
        for fault in verify(args.dataset, lambda samples: progress.advance(task, samples)):
            faults += 1
            print(fault)
    if not faults:
        print(f"{args.dataset}: {manifest.counts['samples']} samples, every checksum and count is right")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

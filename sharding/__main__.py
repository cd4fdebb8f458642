"""`python -m sharding info | verify | convert | index DATASET`."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from .convert import DEFAULT_FRACTION, FORMATS, convert
from .dali_index import write_index
from .dataset import Dataset
from .encoding import NAMES
from .errors import DatasetError
from .info import summary
from .manifest import Manifest
from .progress import byte_bar
from .verify import verify


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when all is well, 1 when `verify` found a fault, 2 for a user's error, 130 for Ctrl-C."""
    args = _parser().parse_args(argv)
    try:
        args.dataset = _folder(args.dataset)
        return int(args.command(args))
    except DatasetError as err:
        print(f"sharding: error: {err}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads this has enough, as `head` soon has; Python's end must not meet it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as err:
        where = err.filename or getattr(args, "out", None) or args.dataset
        print(f"sharding: error: {where}: {err.strerror}; make room, or choose another place", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sharding: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sharding", description="Look at a dataset on disk, or convert it.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, text in (
        ("info", _info, "say what is in a dataset"),
        ("verify", _verify, "check every checksum and count; exit status 1 and a line for each fault"),
        ("convert", _convert, "write it anew in the other container or with other pixels"),
        ("index", _index, "write index files for DALI's readers.webdataset"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("dataset", help="folder that holds dataset.json")
        sub.set_defaults(command=command)
        if command is _info:
            sub.add_argument("--figure", type=Path, metavar="F.png", help="also draw 64 random stamps and the noise")
        if command in (_convert, _index):
            sub.add_argument("--out", type=Path, required=True, help="folder to write")
        if command is _convert:
            _add_conversion(sub)
    return parser


def _folder(given: str) -> Path:
    if "://" in given:
        raise DatasetError(f"{given}: this command takes a folder, got a URL; copy the dataset first")
    return Path(given)


def _add_conversion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=FORMATS, help="container (default: that of DATASET)")
    parser.add_argument(
        "--encoding",
        choices=NAMES,
        help="stored pixels (default: those of DATASET); int16 and float16 halve the bytes, `info` tells the loss",
    )
    parser.add_argument(
        "--step",
        type=float,
        metavar="FRACTION",
        help=f"int16: smallest step as a fraction of the band's noise (default: {DEFAULT_FRACTION}, which adds 0.06 %% "
        "to the noise, and to a flux 0.036 of its own error in quadrature)",
    )


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
    with byte_bar("verify", sum(shard.bytes for shard in manifest.shards)) as advance:
        for fault in verify(args.dataset, advance):
            faults += 1
            print(fault)
    if not faults:
        print(f"{args.dataset}: {manifest.counts['samples']} samples, every checksum and count is right")
    return 1 if faults else 0


def _convert(args: argparse.Namespace) -> int:
    manifest = Manifest.read(args.dataset)
    with byte_bar("convert", sum(shard.bytes for shard in manifest.shards)) as advance:
        wanted = {"container": args.format, "encoding": args.encoding, "fraction": args.step}
        convert(args.dataset, args.out, **wanted, advance=advance).close()
    print(summary(args.out))
    return 0


def _index(args: argparse.Namespace) -> int:
    written = write_index(args.dataset, args.out)
    print(f"{args.out}: {len(written)} index files, one for each shard")
    return 0


if __name__ == "__main__":
    sys.exit(main())

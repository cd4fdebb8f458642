"""`python -m ingest run | hdf5 | export | simulate | likeness | seeing`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import IngestError
from .export import add_export
from .hdf5 import add_hdf5
from .run import add_run
from .seeing_figure import add_seeing


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 2 for a user's error."""
    try:
        args = _parser().parse_args(argv)
        return int(args.command(args))
    except (IngestError, OSError) as err:
        print(f"ingest: error: {err}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ingest: interrupted; the same command goes on from what is whole on disk", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ingest", description="From survey frames to a dataset.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_run(commands.add_parser("run", help="cut the stamps of a catalogue out of survey frames"))
    add_hdf5(commands.add_parser("hdf5", help="take the HDF5 files that the published codes use"))
    add_export(commands.add_parser("export", help="give a stamp back as FITS, with its WCS"))
    _add_simulate(commands.add_parser("simulate", help="make a practice survey in SDSS's own file formats"))
    _add_likeness(commands.add_parser("likeness", help="how alike a practice catalogue and a real one are"))
    add_seeing(commands.add_parser("seeing", help="fit how PSF and sky noise vary, from photoField tables"))
    return parser


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder to make: frames/ and catalog.parquet")
    parser.add_argument("--galaxies", type=int, default=3060, help="how many (default: 3060; 170 fill a field)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes (default: 0)")
    parser.set_defaults(command=_simulate)


def _simulate(args: argparse.Namespace) -> int:
    from .report import bar
    from .simulate import SurveyConfig, simulate

    with bar("simulate", "frames") as advance:
        survey = simulate(SurveyConfig(galaxies=args.galaxies, seed=args.seed), args.out, advance)
    print(f"{args.out}: {survey.galaxies} galaxies in {survey.fields} fields; catalogue in {survey.catalog}")
    return 0


def _add_likeness(parser: argparse.ArgumentParser) -> None:
    practice = parser.add_mutually_exclusive_group()
    practice.add_argument("--practice", type=Path, help="catalog.parquet of a practice survey (default: draw one)")
    practice.add_argument("--galaxies", type=int, default=30_600, help="how many to draw (default: 30600)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")
    parser.add_argument(
        "--real", type=Path, required=True, help="CSV, Parquet or FITS with u, g, r, i, z, redshift and, if any, class"
    )
    parser.add_argument("--magnitude", choices=["modelMag", "petroMag"], default="modelMag", help="default: modelMag")
    parser.add_argument("--dereddened", action="store_true", help="the real magnitudes are; the practice ones then too")
    parser.add_argument("--u-limit", type=float, default=19.6, help="faintest u compared (default: 19.6; inf for none)")
    parser.add_argument("--r-limit", type=float, default=17.8, help="faintest r compared (default: 17.8; inf for none)")
    parser.add_argument("--photoobj", type=Path, nargs="*", default=[], help="photoObj files, for sizes and shapes")
    parser.add_argument("--out", type=Path, required=True, help="figure to write (PNG)")
    parser.set_defaults(command=_likeness)


def _likeness(args: argparse.Namespace) -> int:
    from .simulate.likeness_command import likeness

    return likeness(args)


if __name__ == "__main__":
    sys.exit(main())

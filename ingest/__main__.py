"""`python -m ingest run | simulate`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import IngestError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 2 for a user's error."""
    try:
        args = _parser().parse_args(argv)
        return int(args.command(args))
    except (IngestError, OSError) as err:
        print(f"ingest: error: {err}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ingest: interrupted; nothing was left behind", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ingest", description="From survey frames to a dataset.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="cut the stamps of a catalogue out of survey frames"))
    _add_simulate(commands.add_parser("simulate", help="make a practice survey in SDSS's own file formats"))
    _add_likeness(commands.add_parser("likeness", help="draw how alike a practice catalogue and a real one are"))
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--catalog", type=Path, required=True, help="CSV, Parquet or FITS; photoObj files as they are")
    parser.add_argument("--frames", type=Path, required=True, help="folder of frames, flat or in the archive's layout")
    parser.add_argument("--out", type=Path, required=True, help="dataset to make; must not exist yet")
    parser.add_argument("--max-petro-r", type=float, metavar="MAG", help="keep objects up to this petroMag_r")
    parser.add_argument("--dereddened", action="store_true", help="apply that cut to petroMag_r - extinction_r")
    parser.add_argument("--keep-repeats", action="store_true", help="photoObj: keep every observation of a THING_ID")
    parser.add_argument("--samples-per-shard", type=int, default=512, help="fill a shard up to this (default: 512)")
    parser.add_argument("--address", help="Ray cluster (default: RAY_ADDRESS, else a local one)")
    parser.add_argument("--workers", type=int, help="processes of a local Ray (default: one a core)")
    parser.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> int:
    from .job import IngestConfig, prepare, write_dataset
    from .report import bar, prepared_lines
    from .selection import SelectionConfig

    selection = SelectionConfig(
        max_petro_r=args.max_petro_r, dereddened=args.dereddened, keep_repeats=args.keep_repeats
    )
    config = IngestConfig(
        catalog=args.catalog,
        frames=args.frames,
        out=args.out,
        selection=selection,
        samples_per_shard=args.samples_per_shard,
        address=args.address,
        workers=args.workers,
    )
    work = prepare(config)
    print("\n".join(prepared_lines(work)))
    with bar("ingest", "fields") as advance:
        dataset = write_dataset(config, work, advance)
    counts = dataset.manifest.counts
    print(f"{args.out}: {counts['samples']} samples, {counts['rejects']} rejects of {counts['objects']} objects")
    return 0


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
    parser.add_argument("--practice", type=Path, required=True, help="catalog.parquet of a practice survey")
    parser.add_argument("--real", type=Path, required=True, help="CSV with columns u, g, r, i, z, redshift and class")
    parser.add_argument("--out", type=Path, required=True, help="figure to write (PNG)")
    parser.set_defaults(command=_likeness)


def _likeness(args: argparse.Namespace) -> int:
    from .simulate.likeness import practice_sample, real_sample, write_figure
    from .tables import read_table

    write_figure(practice_sample(read_table(args.practice)).seen(), real_sample(args.real).seen(), args.out)
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m ingest run`: what the command line says, and what it prints. A finished dataset is repaired."""

import argparse
import math
from pathlib import Path

from sharding.progress import byte_bar

from .errors import IngestError
from .job import write_dataset
from .pool import in_submitted_job
from .prepare import IngestConfig, Prepared, prepare
from .repair import examine, mend, recognised
from .report import finished_lines, job_progress, prepared_lines
from .selection import SelectionConfig
from .sources import SourceConfig
from .strip import CutConfig
from .workfolder import holds_dataset


def add_run(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of `run`."""
    parser.add_argument("--catalog", type=Path, required=True, help="CSV, Parquet or FITS; photoObj files as they are")
    parser.add_argument(
        "--frames", required=True, metavar="DIR_OR_URL", help="frames, flat or in the archive's layout; https, s3, ..."
    )
    parser.add_argument("--out", type=Path, required=True, help="dataset to make; one that is damaged is repaired")
    parser.add_argument("--format", choices=("webdataset", "zarr"), default="webdataset", help="container of images")
    parser.add_argument("--samples-per-shard", type=int, default=2048, help="about so many (default: 2048)")
    selection = parser.add_argument_group("which objects")
    selection.add_argument("--max-petro-r", type=float, metavar="MAG", help="keep objects up to this petroMag_r")
    selection.add_argument("--dereddened", action="store_true", help="apply that cut to petroMag_r - extinction_r")
    selection.add_argument("--keep-repeats", action="store_true", help="photoObj: keep every observation of a THING_ID")
    selection.add_argument("--reject-flags", metavar="FLAG,...", help="drop objects with these flags, such as SATUR")
    selection.add_argument("--labels", type=Path, metavar="FILE", help="table to join, by objid")
    selection.add_argument("--match-radius", type=float, metavar="ARCSEC", help="join it by position, within this")
    faults = parser.add_argument_group("what is not as it should be")
    faults.add_argument(
        "--on-error", choices=("stop", "reject"), default="stop", help="a damaged or missing frame (default: stop)"
    )
    faults.add_argument(
        "--min-coverage", type=float, default=1.0, metavar="FRACTION", help="of each band's stamp (default: 1)"
    )
    remote = parser.add_argument_group("frames from a URL")
    remote.add_argument("--cache", type=Path, metavar="DIR", help="local folder (default: below the temporary folder)")
    remote.add_argument("--cache-gb", type=float, default=10.0, help="size of the cache (default: 10)")
    remote.add_argument("--connections", type=int, default=8, help="open at a time on a node (default: 8)")
    where = parser.add_argument_group("where to run")
    where.add_argument("--address", help="Ray cluster (default: RAY_ADDRESS, else a local one)")
    where.add_argument("--workers", type=int, help="tasks at a time (default: one a core)")
    parser.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> int:
    config = _config(args)
    work = prepare(config)
    print("\n".join(prepared_lines(work)), flush=True)
    if holds_dataset(config.out):
        return _repair(config, work)
    with job_progress() as told:
        dataset = write_dataset(config, work, told)
    counts = dataset.manifest.counts
    print(f"{args.out}: {counts['samples']} samples, {counts['rejects']} rejects of {counts['objects']} objects")
    for line in finished_lines(told.state):
        print(line)
    return 0


def _repair(config: IngestConfig, work: Prepared) -> int:
    manifest = recognised(config, work)
    with byte_bar("verify", sum(entry.bytes for entry in manifest.shards)) as advance:
        damage = examine(config, work, manifest, advance)
    for line in (*damage.strays, *(f"{config.out / name}: damaged, to be made again" for name in damage.files)):
        print(line, flush=True)
    with job_progress() as told:
        mend(config, work, manifest, damage, told)
    print(f"{config.out}: {f'{len(damage.files)} files repaired' if damage.files else 'whole: nothing to repair'}")
    for line in finished_lines(told.state):
        print(line)
    return 0


def _config(args: argparse.Namespace) -> IngestConfig:
    if not 0 < args.cache_gb < math.inf:
        raise IngestError(f"--cache-gb: expected more than 0, got {args.cache_gb:g}")
    if in_submitted_job():
        for option in ("catalog", "frames", "out", "labels"):
            _check_absolute(option, getattr(args, option))
    flags = dict.fromkeys(flag.strip() for flag in (args.reject_flags or "").split(","))
    return IngestConfig(
        catalog=args.catalog,
        source=SourceConfig(
            root=_absolute(args.frames),
            cache=args.cache and args.cache.absolute(),
            cache_bytes=int(args.cache_gb * 1e9),
            connections=args.connections,
        ),
        out=args.out,
        selection=SelectionConfig(
            max_petro_r=args.max_petro_r,
            dereddened=args.dereddened,
            keep_repeats=args.keep_repeats,
            reject_flags=tuple(flag for flag in flags if flag),
        ),
        labels=args.labels,
        match_radius_arcsec=args.match_radius,
        format=args.format,
        samples_per_shard=args.samples_per_shard,
        cut=CutConfig(min_coverage=args.min_coverage, on_error=args.on_error),
        address=args.address,
        workers=args.workers,
    )


def _check_absolute(option: str, given: Path | str | None) -> None:
    if given is not None and not _is_url(str(given)) and not Path(given).is_absolute():
        raise IngestError(
            f"--{option}: expected an absolute path (or a URL) in a submitted job, got {given}: a relative one would "
            "lie in a folder that Ray removes"
        )


def _absolute(frames: str) -> str:
    """A folder as every node sees it: the workers of a cluster stand in folders of their own."""
    return frames if _is_url(frames) else str(Path(frames).absolute())


def _is_url(frames: str) -> bool:
    return "://" in frames or "::" in frames

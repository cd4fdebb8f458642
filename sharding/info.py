"""A dataset in a page of text."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .manifest import PERCENTILES, Manifest

_INDENT = " " * 14


def summary(folder: Path) -> str:
    """What `python -m sharding info` prints."""
    m = Manifest.read(folder)
    shape = " x ".join(map(str, m.image_shape))
    size = sum(entry.bytes for entry in (*m.shards, *m.files))
    slots = f" of {m.slots_per_shard} slots" if m.slots_per_shard else ""
    lines = [
        f"{folder}: {m.survey}, {m.counts['samples']} samples, {m.counts['rejects']} rejects",
        f"  images      {shape} ({', '.join(m.bands)}), {m.encoding.name}, {m.flux_unit} per pixel",
        f"  pixel       {m.pixel_scale_arcsec} arcsec",
        f"  projection  {m.projection}",
        f"  pixels by   {m.registration}",
        f"  coverage    {m.coverage}",
        f"  extinction  {m.extinction['source']} ({m.extinction['law']})",
        f"  container   {m.container}, {len(m.shards)} shards{slots}, {size / 1e6:.1f} MB",
        f"  inputs      {_pairs(m.inputs)}",
        f"  selection   {m.counts['catalogue_rows']} rows read, {m.counts['objects']} objects asked for",
        *(f"{_INDENT}- {step['removed']}: {step['condition']}" for step in m.selection),
        f"  labels      {'' if m.labels else 'from the catalogue alone'}",
        *(f"{_INDENT}- {_pairs(label)}" for label in m.labels),
        "  noise       medians over the samples [nanomaggy per pixel]",
        *(f"{_INDENT}{band}: {_pairs(noise)}" for band, noise in m.noise.items()),
        *_loss(m),
        *_distributions(m),
        f"  made by     {m.made_by}",
        f"  digest      {m.digest}",
    ]
    return "\n".join(line.rstrip() for line in lines)


def _loss(manifest: Manifest) -> Iterator[str]:
    """What the pixels' encoding, or an earlier one, lost: nothing where they are as they were measured."""
    encoding, loss = manifest.encoding, manifest.encoding.loss
    if encoding.step:
        steps = ", ".join(f"{band} {step:.4g}" for band, step in encoding.step.items())
        yield f"  steps       at least, {encoding.fraction:g} of the noise [nanomaggy per pixel]: {steps}"
    if loss:
        yield (
            f"  lost        by {loss['encoding']}, over {loss['samples']} samples: error of the flux within "
            f"{loss['radius_pixels']} pixels in units of its noise; of bright samples, of magnitudes and colours [mag]"
        )
        for name, values in (*loss["bands"].items(), *loss["colours"].items()):
            yield f"{_INDENT}{name}: {', '.join(f'{key} {_short(value)}' for key, value in values.items())}"


def _short(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _distributions(manifest: Manifest) -> Iterator[str]:
    if manifest.distributions:
        yield f"  spread      over the samples: percentiles {', '.join(map(str, PERCENTILES))}"
    for prefix, bands in manifest.distributions.items():
        yield f"{_INDENT}{prefix}: {manifest.columns.get(prefix, 'as the catalogue gives it')}"
        for band, values in bands.items():
            yield f"{_INDENT}  {band}: {' '.join(f'{value:.4g}' for value in values)}"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )

"""A dataset in a dozen lines of text."""

from pathlib import Path

from .manifest import Manifest


def summary(folder: Path) -> str:
    """What `python -m sharding info` prints."""
    m = Manifest.read(folder)
    shape = " x ".join(map(str, m.image_shape))
    size = sum(entry.bytes for entry in (*m.shards, *m.files))
    lines = [
        f"{folder}: {m.survey}, {m.counts['samples']} samples, {m.counts['rejects']} rejects",
        f"  images      {shape} ({', '.join(m.bands)}), {m.dtype}, {m.flux_unit} per pixel",
        f"  pixel       {m.pixel_scale_arcsec} arcsec",
        f"  projection  {m.projection}",
        f"  coverage    {m.coverage}",
        f"  extinction  {m.extinction['source']} ({m.extinction['law']})",
        f"  container   {m.container}, {len(m.shards)} shards, {size / 1e6:.1f} MB",
        f"  selection   {m.counts['catalogue_rows']} rows read, {m.counts['objects']} objects asked for",
        *(f"              - {step['removed']}: {step['condition']}" for step in m.selection),
        "  noise       band: sky sigma, stamp sigma, MAD [nanomaggy per pixel]",
    ]
    for band, noise in m.noise.items():
        lines.append(f"              {band}: {noise['sky_sigma']:.4f} {noise['stamp_sigma']:.4f} {noise['mad']:.4f}")
    lines += [f"  made by     {m.made_by}", f"  digest      {m.digest}"]
    return "\n".join(lines)

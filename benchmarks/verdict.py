"""Which stage the whole waits for, and what the others could do beyond it."""

from collections.abc import Mapping


def verdict(rates: Mapping[str, float]) -> str:
    """A sentence from each stage's rate [image / s]: the slowest one binds."""
    binding = min(rates, key=lambda stage: rates[stage])
    rate = f"{_digits(rates[binding])} images/s"
    others = sorted((stage for stage in rates if stage != binding), key=lambda stage: rates[stage])
    if not others:
        return f"{binding} alone was measured: {rate}; run all to see which stage binds"
    headroom = ", ".join(f"{stage} {_digits(rates[stage] / rates[binding])} times" for stage in others)
    return f"{binding} binds the whole at {rate}; the others could do more: {headroom}"


def _digits(value: float) -> str:
    """Two digits that mean something: 0.42, 3.1, 57, 12,000."""
    return f"{float(f'{value:.2g}'):,.{2 if value < 0.995 else 1 if value < 9.95 else 0}f}"

"""Numbers as people read them: figures with as many digits as their errors allow, others with two."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .results import Figure


@dataclass(frozen=True, slots=True)
class Form:
    """How a figure of merit is written."""

    name: str
    scale: float = 1.0
    unit: str = ""
    signed: bool = False


FORMS: dict[str, Form] = {
    "sigma_mad": Form("sigma_MAD"),
    "eta": Form("eta", 100.0, " %"),
    "bias": Form("bias", signed=True),
    "accuracy": Form("accuracy", 100.0, " %"),
}


def figure_text(figure: Figure, name: str) -> str:
    """A figure and one standard deviation: "0.0229 ± 0.0009", "81.2 ± 0.9 %"."""
    form = FORMS[name]
    return _pair(form.scale * figure.value, form.scale * figure.error, form.signed) + form.unit


def difference_text(figure: Figure, name: str) -> str:
    """The difference of two, with its sign and no unit: "-0.0021 ± 0.0006"; percentages differ by `points`."""
    form = FORMS[name]
    return _pair(form.scale * figure.value, form.scale * figure.error, signed=True)


def points(name: str) -> str:
    """The unit of a difference, in words."""
    return "percentage points" if FORMS[name].unit else ""


def _pair(value: float, error: float, signed: bool) -> str:
    places = max(_places(error), 0) if error > 0 else 4
    # A value that rounds to nothing has no sign: adding zero to minus zero makes it plus zero.
    return f"{round(value, places) + 0.0:{'+' if signed else ''}.{places}f} ± {error:.{places}f}"


def number_text(value: float) -> str:
    """A number above 0 with two significant digits: "1,200", "2.9", "0.18"."""
    rounded = float(f"{value:.1e}")
    return f"{rounded:,.{max(1 - math.floor(math.log10(rounded)), 0)}f}"


def capital(text: str) -> str:
    """With a capital first letter, the others as they are."""
    return text[:1].upper() + text[1:]


def counted(number: int, name: str) -> str:
    """ "1 epoch", "2,000 epochs"."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


def _places(error: float) -> int:
    """Decimals that leave an error one digit, or two where the first is a 1; negative for tens and hundreds."""
    exponent = math.floor(math.log10(error))
    return 1 - exponent if error < 2 * 10.0**exponent else -exponent

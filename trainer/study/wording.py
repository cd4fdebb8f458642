"""Numbers as people read them: with as many digits as their errors allow."""

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


def number_text(value: float, error: float) -> str:
    """A number that is as uncertain as ``error``, rounded: 1234 and 380 give "1,200". Whole where the error is 0."""
    places = _places(error) if error > 0 else 0
    return f"{round(value, places) + 0.0:,.{max(places, 0)}f}"


def listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


def _places(error: float) -> int:
    """Decimals that leave an error one digit, or two where the first is a 1; negative for tens and hundreds."""
    exponent = math.floor(math.log10(error))
    return 1 - exponent if error < 2 * 10.0**exponent else -exponent

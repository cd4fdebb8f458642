"""The names in a training's records: what a person calls them and how their values are written.

One table for the panel, the curves and the report, in the order in which they show it. A name that it lacks is shown
all the same, plainly.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quantity:
    """How one number of a record is shown."""

    label: str
    form: str  # of a value, for str.format
    axis: str = ""  # of a plot, if it needs more than the label

    def text(self, value: float) -> str:
        """The value with its unit."""
        return self.form.format(value)


LEARNT = {  # what is learnt
    "loss": Quantity("loss", "{:.4f}", "training loss"),
    "accuracy": Quantity("instance accuracy", "{:.1%}", "instance accuracy, share"),
    "spread": Quantity("spread of keys", "{:.3f}", "spread of keys\n(1 even, 0 collapsed)"),
    "validation_loss": Quantity("validation loss", "{:.4f}"),
    "validation_sigma_mad": Quantity("validation sigma_MAD", "{:.4f}", r"validation $\sigma_{\rm MAD}$"),
    "validation_error": Quantity("validation error", "{:.1%}", "validation error, share"),
}
RUNNING = {  # how it runs
    "lr": Quantity("learning rate", "{:.3g}"),
    "images_per_s": Quantity("images/s", "{:,.0f}", "images / s, all ranks"),
    "wait_share": Quantity("waiting for data", "{:.1%}", "waiting for data,\nshare of the step"),
    "augment_share": Quantity("making views", "{:.1%}", "making views,\nshare of the step"),
    "memory_gb": Quantity("memory", "{:.2f} GB", "memory [GB]"),
    "tflops": Quantity("arithmetic", "{:.3g} TFLOP/s", "TFLOP / s, all ranks"),
    "skipped": Quantity("steps left out", "{:.1%}", "steps left out, share"),
}
PLACE = ("step", "epoch")  # where a record stands: no quantities


def quantity(name: str) -> Quantity:
    """How the number of this name is shown."""
    known = LEARNT | RUNNING
    return known.get(name) or Quantity(name.replace("_", " "), "{:.4g}")


def in_order(names: set[str]) -> list[str]:
    """The quantities among these names: those of the tables in their order, then the others."""
    known = [*LEARNT, *RUNNING]
    return [name for name in known if name in names] + sorted(names - {*known, *PLACE})

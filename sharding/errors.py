"""The error that a user of a dataset can mend."""


class DatasetError(ValueError):
    """A dataset is missing, damaged or of another kind; the text says where, what was expected and what to do."""


def one_line(text: object, most: int = 200) -> str:
    """What a library said, or what a damaged file holds, fit for an error's text: printable, one line, not too long."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in str(text)).split())
    return line if len(line) <= most else f"{line[: most - 3]}..."

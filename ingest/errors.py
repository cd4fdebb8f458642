"""The errors that a user of ingest can mend."""


class IngestError(ValueError):
    """Bad input to ingest; the text says in one line where, what was expected, what came and what to do."""


class FrameError(IngestError):
    """A frame that is missing, damaged, or not the one that its name promises. It will not pass by trying again."""

    def __init__(self, where: str, name: str, problem: str, detail: str = "", todo: str = "fetch it again") -> None:
        told = f"{problem} ({detail})" if detail else problem
        super().__init__(f"{where}: {told}; {todo}")
        self.reason = f"{name}: {problem}"  # the same on any machine: no folder, no text of a library

    def __reduce__(self) -> tuple[type[IngestError], tuple[str]]:
        return IngestError, (str(self),)  # what a Ray task hands back is only its text

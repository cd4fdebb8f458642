"""What a user of the benchmarks did wrong, in one line."""


class BenchmarkError(Exception):
    """Where, what was expected, what came, what to do."""

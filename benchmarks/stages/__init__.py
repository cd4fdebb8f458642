"""One module a stage, each with ``run(data, rounds) -> StageReport``."""

"""The parts of the read benchmark: its data, the limit, other readers, ours, and files that are not cached."""

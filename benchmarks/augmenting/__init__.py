"""What `stages.augment` measures: the work, which is the same for all, and others' ways of doing it."""

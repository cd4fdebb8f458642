"""What the train benchmark sets side by side: MoCo steps of ours and of others, on any number of ranks, and losses."""

"""The whole way of the data in training, at once: shards to batches to views to a step; and other people's loaders."""

"""What the ingest stage measures: strips and whole jobs of ours, and how others make the same stamps."""

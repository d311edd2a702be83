"""From audio and annotations to batches in a defined order."""

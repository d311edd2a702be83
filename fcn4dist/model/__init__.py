"""FCN-4 and the checkpoints of others that it loads."""

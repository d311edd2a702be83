"""The training step, its loop, schedule and checkpoints."""

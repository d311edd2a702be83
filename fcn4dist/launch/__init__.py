"""From a config to a job that has ended: `launch` and `train`."""

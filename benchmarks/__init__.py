"""Measurements that compare: each module is a command, `python -m benchmarks.NAME`."""

"""HCCL rank tables: read, check, build, merge, convert and show them."""

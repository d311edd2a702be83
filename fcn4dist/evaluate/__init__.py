"""Scores of every clip exactly once, and their metrics."""

"""Train FCN-4 music taggers with MindSpore, on one CPU or on clusters of Ascend servers."""

__version__ = "0.1.0"

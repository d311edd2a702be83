"""Configs of MindSpore ModelZoo's FCN-4, read as data."""

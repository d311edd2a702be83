"""Annotations: which clips there are, and which tags each has; one reader a format."""

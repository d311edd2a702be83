"""Annotations: which clips there are, and which tags each has; one reader a format."""

from fcn4dist.data.annotations.clips import Annotations
from fcn4dist.data.annotations.load import load_annotations, load_chosen_annotations, locate_clips

__all__ = ["Annotations", "load_annotations", "load_chosen_annotations", "locate_clips"]

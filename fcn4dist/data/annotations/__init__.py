"""Annotations: which clips there are, and which tags each has; one reader a format."""

from fcn4dist.data.annotations.formats import load_annotations, load_chosen_annotations, locate_clips
from fcn4dist.data.annotations.tagged_clips import Annotations

__all__ = ["Annotations", "load_annotations", "load_chosen_annotations", "locate_clips"]

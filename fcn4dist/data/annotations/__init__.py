"""Annotations: which clips there are, and which tags each has; one reader a format."""

from fcn4dist.data.annotations.clips import Annotations
from fcn4dist.data.annotations.load import check_any_there, load_annotations, locate_clips

__all__ = ["Annotations", "check_any_there", "load_annotations", "locate_clips"]

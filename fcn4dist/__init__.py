"""Train FCN-4 music taggers with MindSpore, on one CPU or on clusters of Ascend servers. The Python face:

    >>> import fcn4dist
    >>> tagger = fcn4dist.load("model.onnx")  # or .mindir, a checkpoint folder, a run folder (its best checkpoint)
    >>> tagging = tagger.tag("song.wav")
    >>> tagging.scores.shape, tagging.window_scores.shape, tagging.times_s
    ((3,), (4, 3), array([0., 2., 4., 5.]))
    >>> [tag for tag, score in tagging.top(2)]
    ['tag1', 'tag2']

    >>> data = fcn4dist.open_dataset("DATA")  # what `fcn4dist prepare` wrote
    >>> val = data.split("val")
    >>> val.clip_ids.shape, val.labels.shape
    ((13,), (13, 3))
    >>> mel_db = val.read(range(13))  # (n, 1, n_mels, frames), dB
    >>> figures = fcn4dist.evaluate(val.labels, tagger.score(mel_db), tags=data.tags, groups=val.groups)
    >>> figures["num_scored"], [tag["tag"] for tag in figures["tags"]]  # the document that evaluation.json holds
    (13, ['tag0', 'tag1', 'tag2'])

    >>> tagger.tag("notes.txt")
    Traceback (most recent call last):
    fcn4dist.errors.DataError: notes.txt: cannot be decoded: not audio, or damaged

What can be wrong is one of `fcn4dist.errors`, with a message for people. Importing this loads nothing heavy: what a name needs
is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcn4dist import errors
    from fcn4dist.data.dataset import open_dataset
    from fcn4dist.evaluate.of_scores import evaluate
    from fcn4dist.tag.tagger import load

__version__ = "0.2.0"
__all__ = ["__version__", "errors", "evaluate", "load", "open_dataset"]

_HOME = {"load": "fcn4dist.tag.tagger", "open_dataset": "fcn4dist.data.dataset"}  # public name -> its module
_ROOMS = ("errors", "evaluate")  # public names that are modules; that of evaluate can be called


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"fcn4dist.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Open whatever gives scores: an ONNX file, a MINDIR file or a checkpoint."""

from __future__ import annotations

from pathlib import Path

from fcn4dist.config import RunConfig
from fcn4dist.errors import CheckpointError, ConfigError
from fcn4dist.export.scorer import Scorer
from fcn4dist.job.devices import require_mindspore, resolve_target
from fcn4dist.train.device import prepare_imports


def open_scorer(path: Path, config: RunConfig) -> Scorer:
    """Return the scorer that `path` means: an .onnx or a .mindir file with its card, else a checkpoint.

    `config` names the device, and for a checkpoint file of ModelZoo its tags, pools and mel. MindSpore is imported for
    all but ONNX. Raises CheckpointError or DeviceError.
    """
    if path.suffix in (".onnx", ".mindir") and not path.is_dir():
        _check_nothing_is_set(path, config)
    if path.suffix == ".onnx" and not path.is_dir():
        from fcn4dist.export.onnx_scorer import OnnxScorer

        return OnnxScorer.open(path)
    if path.suffix in (".air", ".json") and path.is_file():
        raise CheckpointError(f"{path}: cannot be run here; expected a checkpoint folder, an .onnx or a .mindir file")
    target = resolve_target(config.launch.device_target)
    require_mindspore()
    prepare_imports(target)
    from fcn4dist.export.mindspore_scorers import CheckpointScorer, MindirScorer  # MindSpore loads here

    if path.suffix == ".mindir" and not path.is_dir():
        return MindirScorer.open(path, target)
    return CheckpointScorer.open(path, config, target)


def _check_nothing_is_set(path: Path, config: RunConfig) -> None:
    """Raise ConfigError where the user sets what the card of an exported file says."""
    for section in ("mel", "model"):
        if keys := sorted(getattr(config, section).model_fields_set):
            raise ConfigError(f"{section}.{keys[0]}: {path} has its own in its card; leave it out")

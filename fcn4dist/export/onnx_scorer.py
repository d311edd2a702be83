"""Scores by onnxruntime, without MindSpore."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fcn4dist.errors import CheckpointError, DeviceError, pip_install
from fcn4dist.export.card import INPUT, OUTPUT, load_card
from fcn4dist.export.scorer import Float32, Listener, check_scores


class OnnxScorer:
    """An .onnx file that `fcn4dist export` wrote."""

    compiles_each_batch = False

    def __init__(self, file: Path, listener: Listener) -> None:
        """Load the graph; raises CheckpointError where onnxruntime refuses it, DeviceError where it is not installed."""
        self.listener = listener
        self._file = file
        self._session = _open_session(file)

    @classmethod
    def open(cls, file: Path) -> OnnxScorer:
        """Open the file that its card describes."""
        card = load_card(file)
        return cls(file, Listener.of_card(card))

    def score(self, mel_db: Float32) -> Float32:
        """Return the scores (N, num_tags) of clips (N, 1, n_mels, frames)."""
        scores = self._session.run([OUTPUT], {INPUT: mel_db})[0]
        return check_scores(scores, len(mel_db), len(self.listener.tags), str(self._file))


def _open_session(file: Path) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise DeviceError(f"onnxruntime is not installed for this Python; expected: {pip_install('tag')}") from None

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    # threads that wait for the next pass by spinning take a core from decoding: half of a small network's CPU time
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes, one a kind of damage
        raise CheckpointError(f"{file}: onnxruntime cannot load it: {str(error).splitlines()[0]}") from None
    inputs, outputs = ([value.name for value in values] for values in (session.get_inputs(), session.get_outputs()))
    if inputs != [INPUT] or outputs != [OUTPUT]:
        raise CheckpointError(f"{file}: inputs {inputs} and outputs {outputs}; expected [{INPUT!r}] and [{OUTPUT!r}]")
    return session

"""Scores by MindSpore: of a checkpoint's network, and of a MINDIR file."""

from __future__ import annotations

from pathlib import Path

import mindspore as ms
from mindspore import Tensor, nn
from scipy.special import expit

from fcn4dist.config import RunConfig
from fcn4dist.errors import CheckpointError
from fcn4dist.evaluate.thresholds import reliable_thresholds
from fcn4dist.export.card import load_card
from fcn4dist.export.provenance import find_evaluation, load_thresholds
from fcn4dist.export.scorer import Float32, Listener, check_scores
from fcn4dist.job.devices import Target
from fcn4dist.job.rank import SINGLE
from fcn4dist.model.fcn4 import FCN4
from fcn4dist.model.trained import open_model
from fcn4dist.run.figures import Figures
from fcn4dist.train.device import start_device


class CheckpointScorer:
    """A network of ours; its sigmoid is NumPy's, as in an evaluation."""

    compiles_each_batch = True

    def __init__(self, network: FCN4, listener: Listener, where: str) -> None:
        self.listener = listener
        self._network, self._where = network, where
        network.set_train(False)

    @classmethod
    def open(cls, checkpoint: Path, config: RunConfig, target: Target) -> CheckpointScorer:
        """Open the checkpoint that `checkpoint` means; see `open_model`."""
        start_device(target, SINGLE.device, is_scoring=True)
        model = open_model(checkpoint, config)
        card = model.card
        evaluation = find_evaluation(model) or {}
        thresholds, (_, num_unreliable) = load_thresholds(model, evaluation), reliable_thresholds(Figures(evaluation))
        listener = Listener(card.mel, card.model, tuple(card.tags), thresholds, model.path.name, num_unreliable)
        return cls(model.build_network(), listener, str(model.path))

    def score(self, mel_db: Float32) -> Float32:
        """Return the scores (N, num_tags) of clips (N, 1, n_mels, frames)."""
        scores = expit(self._network(Tensor(mel_db)).asnumpy())
        return check_scores(scores, len(mel_db), len(self.listener.tags), self._where)


class MindirScorer:
    """A .mindir file that `fcn4dist export` wrote."""

    compiles_each_batch = False

    def __init__(self, file: Path, listener: Listener) -> None:
        """Load the graph; the device must be chosen by then. Raises CheckpointError where MindSpore refuses it."""
        self.listener = listener
        self._file = file
        try:
            self._network = nn.GraphCell(ms.load(str(file)))
        except Exception as error:  # ValueError or RuntimeError, depending on the damage
            raise CheckpointError(f"{file}: MindSpore cannot load it: {str(error).strip().splitlines()[0]}") from None

    @classmethod
    def open(cls, file: Path, target: Target) -> MindirScorer:
        """Open the file that its card describes."""
        card = load_card(file)
        start_device(target, SINGLE.device, is_scoring=True)
        return cls(file, Listener.of_card(card))

    def score(self, mel_db: Float32) -> Float32:
        """Return the scores (N, num_tags) of clips (N, 1, n_mels, frames)."""
        scores = self._network(Tensor(mel_db)).asnumpy()
        return check_scores(scores, len(mel_db), len(self.listener.tags), str(self._file))

"""What a user of ModelZoo's FCN-4 brings along, made with MindSpore alone: a checkpoint, shards, tag.txt, and its scores.

`python modelzoo_set.py FOLDER BANDS FRAMES C1 C2 C3 C4 [moments]` writes

    FOLDER/zoo.ckpt              random weights; with `moments` as its training saves them, Adam's state included
    FOLDER/val.mindrecord0 ...   clips with the columns id, feature, label; train.mindrecord* likewise
    FOLDER/tag.txt               one tag a label, the rarest first
    FOLDER/clips.npy             the validation clips
    FOLDER/scores.npy            the sigmoid of each of them, from the network in its order: conv, norm, ReLU, pool
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TAGS = ["choral", "no <b>voice</b>", "../drums", "slow"]
NUM_CLIPS = {"train": 8, "val": 5}


@dataclass(frozen=True)
class ModelZooSet:
    """The folder that the program below wrote."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / "zoo.ckpt"

    @property
    def tag_file(self) -> Path:
        return self.folder / "tag.txt"

    @property
    def scores(self) -> np.ndarray:
        return np.load(self.folder / "scores.npy")

    @property
    def clips(self) -> np.ndarray:
        return np.load(self.folder / "clips.npy")


def make_modelzoo_set(
    folder: Path, frames: int, channels: list[int], *, with_moments: bool, num_bands: int = 96
) -> ModelZooSet:
    """Run this file in a process of its own, where MindSpore gets the instruction set that it is fast with."""
    words = [folder, num_bands, frames, *channels, *(["moments"] if with_moments else [])]
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "GLOG_v": "3"}
    subprocess.run([sys.executable, __file__, *map(str, words)], check=True, capture_output=True, env=environment)
    return ModelZooSet(folder)


def main(words: list[str]) -> None:
    import mindspore as ms
    from mindspore import nn, ops
    from mindspore.mindrecord import FileWriter

    folder, (bands, frames), widths = Path(words[0]), map(int, words[1:3]), [1, *map(int, words[3:7])]
    pools = [(2, 4), (4, 5), (3, 8)] if frames > 160 else [(2, 2), (2, 2), (2, 2)]

    class Tagger(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            for i in range(1, 5):
                setattr(self, f"conv{i}", nn.Conv2d(widths[i - 1], widths[i], 3))
                setattr(self, f"bn{i}", nn.BatchNorm2d(widths[i]))
            self.pool1, self.pool2, self.pool3 = (nn.MaxPool2d(pool, pool) for pool in pools)
            self.rectify, self.most = nn.ReLU(), ops.ReduceMax(keep_dims=False)
            self.flat, self.dense = nn.Flatten(), nn.Dense(widths[4], len(TAGS), activation="sigmoid")

        def construct(self, x):
            x = self.pool1(self.rectify(self.bn1(self.conv1(x))))
            x = self.pool2(self.rectify(self.bn2(self.conv2(x))))
            x = self.pool3(self.rectify(self.bn3(self.conv3(x))))
            x = self.rectify(self.bn4(self.conv4(x)))
            return self.dense(self.flat(self.most(x, (2, 3))))

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    rng, network = np.random.default_rng(7), Tagger()
    for parameter in network.get_parameters():
        spread = 1 / np.sqrt(np.prod(parameter.shape[1:]))  # of the inputs of a unit
        if parameter.name == "dense.weight":
            spread /= 60  # so that the scores are neither 0 nor 1
        values = rng.normal(0, spread, parameter.shape)
        if parameter.name.endswith(("gamma", "moving_variance")):
            values = rng.uniform(0.5, 1.5, parameter.shape)
        parameter.set_data(ms.Tensor(values, ms.float32))
    saved = network
    if "moments" in words:
        adam = nn.Adam(network.trainable_params(), learning_rate=0.0005, loss_scale=1024.0)
        saved = nn.TrainOneStepCell(nn.WithLossCell(network, nn.BCELoss(reduction="mean")), adam)
    ms.save_checkpoint(saved, str(folder / "zoo.ckpt"))
    network.set_train(False)
    for part, size in NUM_CLIPS.items():
        clips = rng.normal(-30, 20, (size, 1, bands, frames)).astype(np.float32)
        labels = (rng.random((size, len(TAGS))) < 0.5).astype(np.int32)
        labels[0], labels[1] = 0, 1  # every tag has a positive and a negative
        writer = FileWriter(str(folder / f"{part}.mindrecord"), 4)
        feature = {"type": "float32", "shape": [1, bands, frames]}
        schema = {"id": {"type": "int32"}, "feature": feature, "label": {"type": "int32", "shape": [len(TAGS)]}}
        writer.add_schema(schema, "music_tagger_schema")
        writer.add_index(["id"])
        writer.write_raw_data([{"id": i, "feature": clips[i], "label": labels[i]} for i in range(size)])
        writer.commit()
        if part == "val":
            scores = [network(ms.Tensor(clips[i : i + 1])).asnumpy()[0] for i in range(size)]
            np.save(folder / "scores.npy", np.array(scores))
            np.save(folder / "clips.npy", clips)
    (folder / "tag.txt").write_text("".join(f"{tag}\n" for tag in TAGS))


if __name__ == "__main__":
    main(sys.argv[1:])

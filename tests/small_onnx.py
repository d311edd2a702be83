"""A tagger small enough to be computed by hand, written with onnx's own helper, and its card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.special import expit

from fcn4dist.config import MelConfig, ModelConfig
from fcn4dist.export.card import ExportCard, MelRules, Signature, SplitCard, card_file
from fcn4dist.files import digest_file, save_json

MEL = MelConfig(n_mels=24, clip_s=2.0)
TAGS = ["loud", "soft", "mid"]
WEIGHT = np.array([[0.1, -0.1, 0.05]], np.float32)  # of the clip's loudest value in dB


def expected_scores(mel_db: np.ndarray) -> np.ndarray:
    """The scores of clips (N, 1, n_mels, frames)."""
    return expit(mel_db.max(axis=(1, 2, 3))[:, None] * WEIGHT)


def write_small_onnx(file: Path, tags: list[str] = TAGS, thresholds: list[float | None] | None = None) -> Path:
    """Write the graph scores = sigmoid(max(mel_db) @ WEIGHT) and its card; return the file."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("GlobalMaxPool", ["mel_db"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["highest"]),
        helper.make_node("MatMul", ["highest", "weight"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
    ]
    takes = helper.make_tensor_value_info("mel_db", TensorProto.FLOAT, ["batch", 1, MEL.n_mels, "frames"])
    gives = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", len(tags)])
    weight = numpy_helper.from_array(np.resize(WEIGHT, (1, len(tags))), "weight")
    graph = helper.make_graph(nodes, "small", [takes], [gives], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8), file)
    card = ExportCard(
        name="small",
        file=file.name,
        format="onnx",
        file_sha256=digest_file(file),
        weights_sha256="0" * 64,
        input=Signature(name="mel_db", dtype="float32", shape=["batch", 1, MEL.n_mels, "frames"]),
        output=Signature(name="scores", dtype="float32", shape=["batch", len(tags)]),
        min_frames=8,
        model=ModelConfig(pools=[(2, 2), (2, 2), (2, 2)]),
        mel=MEL,
        mel_rules=MelRules(decibels="", num_frames=MEL.num_frames),
        tags=tags,
        thresholds=thresholds,
        split=SplitCard(name="none"),
        checkpoint="none",
        versions={},
    )
    save_json(card_file(file), card.model_dump(mode="json"))
    return file

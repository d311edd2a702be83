"""A checkpoint of ModelZoo's FCN-4 in our commands: the same scores, the right names, and clear words when it does not fit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from jobs import Run, run_here
from modelzoo_set import TAGS, ModelZooSet, make_modelzoo_set

SMALL = [
    *("--set", "model.pools=[[2,2],[2,2],[2,2]]", "--set", "evaluate.num_resamples=0", "--set", "evaluate.batch=4"),
]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ModelZooSet:
    """Clips of 24 x 32, and a checkpoint as ModelZoo's training saves it."""
    return make_modelzoo_set(tmp_path_factory.mktemp("zoo"), 32, [4, 4, 6, 8], with_moments=True, num_bands=24)


def edited(zoo: ModelZooSet, target: Path, **changes: np.ndarray | None) -> Path:
    """Write the checkpoint with some parameters replaced, added or (None) left out."""
    import mindspore as ms

    values = {name: value.asnumpy() for name, value in ms.load_checkpoint(str(zoo.checkpoint)).items()}
    values |= {name.replace("_", ".", 1): value for name, value in changes.items()}
    entries = [{"name": name, "data": ms.Tensor(value)} for name, value in values.items() if value is not None]
    ms.save_checkpoint(entries, str(target))
    return target


def test_the_scores_of_a_full_size_checkpoint_are_modelzoos(
    fcn4dist: Run, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    zoo = make_modelzoo_set(tmp_path_factory.mktemp("full"), 1366, [128, 384, 768, 2048], with_moments=False)
    result = fcn4dist(
        *("evaluate", "--checkpoint", zoo.checkpoint, "--data", zoo.folder, "--output", tmp_path / "out"),
        *("--set", f"data.tags={zoo.tag_file}", "--json"),
    )
    if "free beside the page cache" in result.stderr:
        pytest.skip("MindSpore 2.10 finds too little free memory for this .ckpt")
    assert result.returncode == 0, result.stderr
    scores = np.load(tmp_path / "out" / "scores.npz")
    np.testing.assert_allclose(scores["scores"], zoo.scores, atol=1e-6)
    assert zoo.scores.std() > 0.01
    document = json.loads(result.stdout)
    assert [tag["tag"] for tag in document["tags"]] == TAGS
    assert document["checkpoint"] == str(zoo.checkpoint)
    assert "ModelZoo" in document["split_name"]


def test_training_goes_on_from_it_with_its_tags(small: ModelZooSet, tmp_path: Path) -> None:
    """A step with a learning rate of nothing leaves the weights: the run's own evaluation has ModelZoo's scores."""
    result = run_here(
        *("train", "--data", small.folder, "--run-dir", tmp_path / "run", *SMALL),
        *("--set", "model.channels=[4,4,6,8]", "--set", "mel.n_mels=24", "--set", "train.global_batch=4"),
        *("--set", f"train.init_from={small.checkpoint}", "--set", f"data.tags={small.tag_file}"),
        *("--set", "train.max_steps=1", "--set", "train.lr=1e-30", "--set", "train.freeze_batch_norm=true"),
    )
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(np.load(tmp_path / "run" / "scores.npz")["scores"], small.scores, atol=1e-6)
    state = json.loads((tmp_path / "run" / "checkpoints" / "step-00000001" / "state.json").read_text())
    assert state["card"]["tags"] == TAGS
    from fcn4dist.config import load_config
    from fcn4dist.model.trained import open_model

    folder = tmp_path / "run" / "checkpoints" / "step-00000001"
    for checkpoint in (
        tmp_path / "run",
        folder,
        folder / "weights.safetensors",
    ):  # the file means its folder, card and all
        assert open_model(checkpoint, load_config()).path == folder
        assert open_model(checkpoint, load_config()).card.tags == TAGS


def test_outputs_without_names_are_numbered(small: ModelZooSet) -> None:
    result = run_here("evaluate", "--checkpoint", small.checkpoint, "--data", small.folder, *SMALL, "--json")
    assert result.returncode == 0, result.stderr
    assert [tag["tag"] for tag in json.loads(result.stdout)["tags"]] == ["tag0", "tag1", "tag2", "tag3"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"conv2_weight": np.zeros((4, 3, 3, 3), np.float32)},
            r"conv2\.weight has shape 4 x 3 x 3 x 3, expected 4 x 4",
        ),
        ({"dense_weight": np.zeros((4, 7), np.float32)}, r"dense\.weight has shape 4 x 7, expected 4 x 8"),
        ({"bn3_gamma": None}, r"no parameter 'bn3\.gamma' \(and 0 more missing\); expected an FCN-4"),
        ({"bn3_beta": np.full(6, np.nan, np.float32)}, r"bn3\.beta holds NaN"),
        ({"conv1_bias": np.zeros(4, np.float32)}, r"conv1\.bias 4: FCN-4 has no such parameter"),
        ({"conv5_weight": np.zeros((9, 8, 3, 3), np.float32)}, r"conv5\.weight 9 x 8 x 3 x 3: FCN-4 has no such"),
    ],
)
def test_another_network_is_named(
    small: ModelZooSet, tmp_path: Path, changes: dict[str, np.ndarray | None], message: str
) -> None:
    from fcn4dist.errors import CheckpointError
    from fcn4dist.model.modelzoo import load_modelzoo

    file = edited(small, tmp_path / "other.ckpt", **changes)
    with pytest.raises(CheckpointError, match=message):
        load_modelzoo(file)


def test_what_does_not_fit_is_one_message(small: ModelZooSet, tmp_path: Path) -> None:
    from fcn4dist.config import load_config
    from fcn4dist.errors import UserError
    from fcn4dist.model.trained import open_model

    (tmp_path / "three.txt").write_text("a\nb\nc\n")
    (tmp_path / "text.ckpt").write_text("weights\n")
    for checkpoint, extra, message in (
        (
            small.checkpoint,
            f"data.tags={tmp_path / 'three.txt'}",
            "4 outputs (dense.weight), but data.tags names 3 tags",
        ),
        (small.checkpoint, "model.channels=[4,4,4,4]", "has channels [4, 4, 6, 8], model.channels says [4, 4, 4, 4]"),
        (small.checkpoint, f"data.tags={tmp_path / 'none.txt'}", "none.txt': cannot read this list of tags"),
        (tmp_path / "text.ckpt", "train.seed=1", "text.ckpt: not a MindSpore checkpoint"),
        (tmp_path / "none.ckpt", "train.seed=1", "none.ckpt: no such checkpoint file"),
        (small.tag_file, "train.seed=1", "expected a file that ends in .ckpt or .safetensors"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            open_model(checkpoint, load_config(None, [extra]))


def test_labels_and_tags_of_another_number_end_with_exit_code_2(small: ModelZooSet, tmp_path: Path) -> None:
    (tmp_path / "three.txt").write_text("a\nb\nc\n")
    tags = ("--set", f"data.tags={tmp_path / 'three.txt'}")
    result = run_here("train", "--data", small.folder, "--run-dir", tmp_path / "run", *SMALL, *tags)
    assert result.returncode == 2
    assert "labels of 4 columns, but 3 tags are named" in result.stderr
    assert "Traceback" not in result.stderr


def write_manifest(folder: Path, tags: list[str], positives: list[int]) -> Path:
    """Write the manifest of a data set that has these tags, as `fcn4dist prepare` does."""
    from fcn4dist.config import MelConfig
    from fcn4dist.data.manifest import FORMAT_VERSION, MANIFEST, Manifest, SplitCounts
    from fcn4dist.data.splits import SplitRule

    manifest = Manifest(
        format_version=FORMAT_VERSION,
        mel=MelConfig(),
        feature_dtype="float32",
        feature_shape=(1, 96, 1366),
        tags=tags,
        split=SplitRule(name="random", rule="by lot"),
        splits={"val": SplitCounts(num_clips=9, clip_list_sha256="", positives=positives)},
        shards=[],
        num_listed=9,
        num_written=9,
        skipped=[],
    )
    folder.mkdir()
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    return folder


def test_outputs_come_in_the_order_of_the_data_set(small: ModelZooSet, tmp_path: Path) -> None:
    """ModelZoo's order is the reverse of what `data.tags: 50` gives: columns must not be taken for one another."""
    from fcn4dist.config import load_config
    from fcn4dist.errors import CheckpointError
    from fcn4dist.model.modelzoo import load_modelzoo
    from fcn4dist.model.trained import open_model

    weights = load_modelzoo(small.checkpoint)
    named = load_config(None, [f"data.tags={small.tag_file}"])
    falling = write_manifest(tmp_path / "falling", TAGS[::-1], [9, 6, 5, 1])
    model = open_model(small.checkpoint, named, falling)
    assert model.card.tags == TAGS[::-1]
    network = {parameter.name: parameter.asnumpy() for parameter in model.build_network().get_parameters()}
    np.testing.assert_array_equal(network["dense.weight"], weights.values["dense.weight"][::-1])
    np.testing.assert_array_equal(network["dense.bias"], weights.values["dense.bias"][::-1])
    # neither order says what the outputs are: "rising" would be taken for theirs if frequencies were looked at
    rising = write_manifest(tmp_path / "rising", [TAGS[i] for i in (0, 2, 1, 3)], [1, 5, 6, 9])
    for folder in (falling, rising):
        with pytest.raises(
            CheckpointError, match=r"does not say which tag each of its 4 outputs is; .*--set data\.tags="
        ):
            open_model(small.checkpoint, load_config(), folder)
    assert open_model(small.checkpoint, named, rising).card.tags == [TAGS[i] for i in (0, 2, 1, 3)]
    three = write_manifest(tmp_path / "three", TAGS[:3], [1, 2, 3])
    with pytest.raises(CheckpointError, match=r"4 outputs \(dense\.weight\), but .*three has 3 tags"):
        open_model(small.checkpoint, load_config(), three)
    assert open_model(small.checkpoint, named).card.tags == TAGS
    assert open_model(small.checkpoint, named).card.model.channels == [4, 4, 6, 8]


def test_it_is_exported_with_its_tags_and_scores(small: ModelZooSet, tmp_path: Path) -> None:
    pytest.importorskip("fcn4dist.cli.export")
    onnxruntime = pytest.importorskip("onnxruntime")
    result = run_here(
        *("export", "--checkpoint", small.checkpoint, "--format", "onnx", "--output", tmp_path / "zoo.onnx"),
        *("--set", f"data.tags={small.tag_file}", "--set", "model.pools=[[2,2],[2,2],[2,2]]"),
        *("--set", "mel.n_mels=24", "--set", "mel.clip_s=0.67"),  # 32 frames
    )
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "zoo.onnx.json").read_text())["tags"] == TAGS
    session = onnxruntime.InferenceSession(tmp_path / "zoo.onnx", providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {session.get_inputs()[0].name: small.clips})
    np.testing.assert_allclose(scores, small.scores, atol=1e-6)

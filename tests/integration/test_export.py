"""A trained network leaves as ONNX, MINDIR and safetensors; each scores as the checkpoint does, in other people's programs."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import soundfile
from jobs import NUM_TAGS, TINY, run_here

from fcn4dist.config import RunConfig
from fcn4dist.errors import CheckpointError, ConfigError, DataError, JobError

DOCS = Path(__file__).resolve().parents[2] / "docs" / "export-and-tag.md"
FORMATS = ("onnx", "mindir", "safetensors")
LENGTHS = (235, 1366)  # frames of 5 s and of 29.12 s


@pytest.fixture(scope="module")
def run(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("export") / "run"
    options = ["--set", "train.epochs=1", "--set", "evaluate.num_resamples=0", "--set", "train.lr=0.002"]
    done = run_here("train", "--data", tiny_shards, "--run-dir", folder, *TINY, *options)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def exported(run: Path) -> dict[str, Path]:
    """The run's best checkpoint in every format that this machine can write."""
    return {name: export(run, run.parent / f"m.{name}") for name in FORMATS}


def export(checkpoint: Path, output: Path, **options: Any) -> Path:
    from fcn4dist.export.pipeline import ExportRequest, export_checkpoint

    export_checkpoint(ExportRequest(checkpoint, output, output.suffix[1:], **options), RunConfig(), "CPU")  # type: ignore[arg-type]
    return output


def card_of(file: Path) -> dict[str, Any]:
    return json.loads(file.with_name(file.name + ".json").read_text())


def clips(batch: int, frames: int) -> np.ndarray:
    return np.random.default_rng(batch + frames).normal(-4, 2, (batch, 1, 24, frames)).astype(np.float32)


def onnx_scores(file: Path, mel_db: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(["scores"], {"mel_db": mel_db})[0]


@pytest.mark.parametrize("batch", [1, 3, 7])
@pytest.mark.parametrize("frames", LENGTHS)
def test_onnx_and_mindir_score_as_the_checkpoint(run: Path, exported: dict[str, Path], batch: int, frames: int) -> None:
    from fcn4dist.export.mindspore_scorers import CheckpointScorer, MindirScorer

    mel_db = clips(batch, frames)
    expected = CheckpointScorer.open(run, RunConfig(), "CPU").score(mel_db)
    assert expected.std() > 0.01
    np.testing.assert_allclose(onnx_scores(exported["onnx"], mel_db), expected, atol=1e-5)
    np.testing.assert_allclose(MindirScorer.open(exported["mindir"], "CPU").score(mel_db), expected, atol=1e-5)


def test_the_graph_says_that_batch_and_length_are_free(exported: dict[str, Path]) -> None:
    session = onnxruntime.InferenceSession(str(exported["onnx"]), providers=["CPUExecutionProvider"])
    (takes,), (gives,) = session.get_inputs(), session.get_outputs()
    assert (takes.name, takes.type, takes.shape) == ("mel_db", "tensor(float)", ["batch", 1, 24, "frames"])
    assert (gives.name, gives.shape) == ("scores", ["batch", NUM_TAGS])


def test_the_card_tells_what_the_file_is(run: Path, exported: dict[str, Path]) -> None:
    evaluation = json.loads((run / "evaluation.json").read_text())
    cards = {name: card_of(file) for name, file in exported.items()}
    for name, card in cards.items():
        assert card["format"] == name
        assert card["file_sha256"] == hashlib.sha256(exported[name].read_bytes()).hexdigest()
        assert card["tags"] == ["tag0", "tag1", "tag2"]
        assert card["mel"]["n_mels"] == 24
        assert card["min_frames"] == 8
        assert card["metrics"]["roc_auc_macro"] == evaluation["roc_auc_macro"]
        assert card["thresholds"] is None  # chosen from 13 clips, none of whose tags has ten with it and ten without
        assert card["checkpoint"] == "step-00000005"
        assert card["verification"]["max_difference"] < 1e-5
        assert card["verification"]["batches"] == [1, 7]
        assert card["verification"]["num_frames"] == list(LENGTHS)
        assert card["verification"]["clips"] == "7 val clips of the data set"
        assert exported[name].stat().st_mode & 0o444 == 0o444
    assert len({card["weights_sha256"] for card in cards.values()}) == 1
    assert sorted(path.name for path in run.parent.iterdir() if path != run) == sorted(
        ["MODEL_CARD.md", *(f"m.{name}{suffix}" for name in FORMATS for suffix in ("", ".json"))]
    )
    model_card = (run.parent / "MODEL_CARD.md").read_text()
    assert re.findall(r"^\| `(m\.\w+)`", model_card, re.MULTILINE) == ["m.safetensors", "m.mindir", "m.onnx"]
    assert f"| ROC-AUC, macro | {evaluation['roc_auc_macro']:.4f} |" in model_card


def test_the_python_face_gives_the_document_of_the_run(run: Path) -> None:
    import fcn4dist

    kept = json.loads((run / "evaluation.json").read_text())
    scored = np.load(run / "scores.npz")
    about = {"split": "val", "split_name": kept["split_name"], "num_resamples": 0}
    tags = [tag["tag"] for tag in kept["tags"]]
    found = fcn4dist.evaluate(scored["labels"], scored["scores"], tags=tags, clip_ids=scored["clip_ids"], **about)
    assert found == {**kept, "checkpoint": None, "trained_on": None, "warnings": []}


def test_the_weights_digest_is_what_the_docs_say(exported: dict[str, Path]) -> None:
    from safetensors.numpy import load_file

    digest = hashlib.sha256()
    for name, array in sorted(load_file(exported["safetensors"]).items()):
        digest.update(f"{name} {'x'.join(map(str, array.shape))}\n".encode() + array.astype("<f4").tobytes())
    assert card_of(exported["safetensors"])["weights_sha256"] == digest.hexdigest()


def test_all_tag_alike(run: Path, exported: dict[str, Path], tmp_path: Path) -> None:
    import fcn4dist

    soundfile.write(tmp_path / "a.flac", np.random.default_rng(0).normal(0, 0.1, 44_100 * 6), 44_100)
    found = {}
    for checkpoint in (run, exported["onnx"], exported["mindir"]):
        tagging = fcn4dist.load(checkpoint).tag(tmp_path / "a.flac", window_s=2.5, hop_s=1.0)
        found[checkpoint.name] = tagging.window_scores
    assert found["run"].shape == (5, NUM_TAGS)
    np.testing.assert_allclose(found["m.onnx"], found["run"], atol=1e-5)
    np.testing.assert_allclose(found["m.mindir"], found["run"], atol=1e-5)


def test_the_lines_of_the_model_card_run(
    exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import fcn4dist

    tagger = fcn4dist.load(exported["onnx"])
    soundfile.write(
        tmp_path / "song.wav", np.random.default_rng(0).normal(0, 0.1, round(tagger.mel.clip_s * 44_100)), 44_100
    )
    for suffix in ("", ".json"):
        (tmp_path / f"m.onnx{suffix}").symlink_to(exported["onnx"].with_name(f"m.onnx{suffix}"))
    monkeypatch.chdir(tmp_path)
    model_card = (exported["onnx"].parent / "MODEL_CARD.md").read_text()
    (code,) = re.findall(r"```python\n(import json.*?)```", model_card, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    np.testing.assert_allclose(names["scores"], tagger.tag("song.wav").scores, atol=1e-5)
    assert "tag2" in capsys.readouterr().out


def test_without_the_data_set_pieces_of_the_demo_set_are_compared(run: Path, tmp_path: Path) -> None:
    import shutil

    alone = tmp_path / "step-00000005"
    shutil.copytree(run / "checkpoints" / "step-00000005", alone)
    card = card_of(export(alone, tmp_path / "m.onnx"))
    assert card["verification"]["clips"] == "7 pieces of the embedded demo set"
    assert (card["metrics"], card["tags"]) == (None, ["tag0", "tag1", "tag2"])


def test_other_scores_fail_and_leave_what_was_there(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that changes one weight a little is found out."""
    from mindspore import Tensor

    from fcn4dist.export import pipeline as export_checkpoint

    write = export_checkpoint.write_onnx  # type: ignore[attr-defined]

    def write_wrong(network: Any, mel: Any, file: Path) -> None:
        right = network.dense.bias.asnumpy().copy()
        network.dense.bias.set_data(Tensor(right + np.float32(0.01)))
        write(network, mel, file)
        network.dense.bias.set_data(Tensor(right))

    (tmp_path / "m.onnx").write_bytes(b"before")
    monkeypatch.setattr(export_checkpoint, "write_onnx", write_wrong)
    with pytest.raises(
        JobError, match=r"m\.onnx: its scores differ from the checkpoint's by up to \d\.\de-0[234] \(batch"
    ):
        export(run, tmp_path / "m.onnx")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("m.onnx", b"before")]


def test_what_cannot_be_exported_says_why(run: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "other.json").write_text('{"tags": [{"tag": "jazz"}]}')
    output = tmp_path / "m.onnx"
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (ConfigError, "is a folder", {"output": tmp_path / "folder.onnx"}),
        (ConfigError, "no such folder", {"output": tmp_path / "none" / "m.onnx"}),
        (ConfigError, "cannot be written: File name too long", {"output": tmp_path / ("m" * 300 + ".onnx")}),
        (CheckpointError, "no such file or folder", {"output": output, "checkpoint": tmp_path / "gone"}),
        (DataError, "neither manifest.json nor train.mindrecord0 here", {"output": output, "data_dir": tmp_path}),
        (CheckpointError, "its tags are not those of", {"output": output, "evaluation": tmp_path / "other.json"}),
    ]
    for error, message, arguments in cases:
        with pytest.raises(error, match=message):
            export(**{"checkpoint": run, **arguments})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.onnx", "other.json"]


def test_air_is_for_ascend_and_a_name_says_its_format(run: Path, tmp_path: Path) -> None:
    for output, message in (
        ("m.air", "AIR"),
        ("m.bin", "expected a name that ends in .mindir, .onnx, .air, .safetensors"),
    ):
        result = run_here("export", "--checkpoint", run, "--output", tmp_path / output)
        assert result.returncode == 2
        assert message in result.stderr
        assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []

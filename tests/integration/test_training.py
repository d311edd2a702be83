"""The main job with real processes: launch, train, evaluate."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import NUM_TAGS, TINY, Run, load_weights, processes_of
from sklearn.metrics import average_precision_score, roc_auc_score

from fcn4dist.data.order import epoch_order


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def test_two_ranks_train_evaluate_and_leave_what_is_promised(fcn4dist: Run, tiny_shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = fcn4dist(
        *("launch", "--devices", 2, "--data", tiny_shards, "--run-dir", run, *TINY),
        *("--set", "train.epochs=2", "--set", "checkpoint.every_steps=3", "--set", "checkpoint.keep=2"),
    )
    assert result.returncode == 0, result.stderr
    assert "ROC-AUC" in result.stdout
    assert processes_of(run) == []
    # every clip of an epoch on just one rank, in the order that the seed gives
    ranks = [lines_of(run / "metrics" / f"rank-{rank}.jsonl") for rank in range(2)]
    assert [line["step"] for line in ranks[0]] == list(range(1, 11))
    ids = [zero["clip_ids"] + one["clip_ids"] for zero, one in zip(*ranks, strict=True)]
    for epoch in range(2):
        assert sorted(np.concatenate(ids[5 * epoch : 5 * epoch + 5])) == list(range(40))
    assert {json.dumps([line["loss"] for line in rank]) for rank in ranks} == {
        json.dumps([x["loss"] for x in ranks[0]])
    }
    assert "10 of 10 steps on 2 ranks (CPU)" in (run / "report.html").read_text()
    assert "mindspore" in json.loads((run / "environment.json").read_text())["packages"]
    # the line of ModelZoo's LossMonitor
    log = (run / "logs" / "attempt-1" / "rank-0.log").read_text()
    assert len(re.findall(r"epoch: [12] step: [1-5], loss is [\d.naif]+", log)) == 10
    # rank 0 alone measures, with intervals at the end of the run only
    assert len(re.findall(r"ROC-AUC 0\.\d+, PR-AUC 0\.\d+, 13 of 13", log)) == 1
    assert len(re.findall(r"ROC-AUC 0\.\d+ \(0\.\d+ to 0\.\d+\), PR-AUC", log)) == 1
    assert "ROC-AUC" not in (run / "logs" / "attempt-1" / "rank-1.log").read_text()
    # figures that scikit-learn confirms, of every clip once
    evaluation, scores = json.loads((run / "evaluation.json").read_text()), np.load(run / "scores.npz")
    assert evaluation["num_expected"] == evaluation["num_scored"] == 13
    assert scores["clip_ids"].tolist() == list(range(13))
    roc = [roc_auc_score(scores["labels"][:, i], scores["scores"][:, i]) for i in range(NUM_TAGS)]
    pr = [average_precision_score(scores["labels"][:, i], scores["scores"][:, i]) for i in range(NUM_TAGS)]
    assert evaluation["roc_auc_macro"] == pytest.approx(np.mean(roc), abs=1e-12)
    assert evaluation["pr_auc_macro"] == pytest.approx(np.mean(pr), abs=1e-12)
    # checkpoints
    latest = (run / "checkpoints" / "latest").read_text().strip()
    assert latest == "step-00000010"
    kept = {path.name for path in (run / "checkpoints").glob("step-*")}
    assert {latest, (run / "checkpoints" / "best").read_text().strip()} <= kept
    assert len(kept) <= 3
    # the same checkpoint, scored alone
    alone = fcn4dist(
        *("evaluate", "--checkpoint", run / "checkpoints" / latest, "--data", tiny_shards, "--json", *TINY)
    )
    assert alone.returncode == 0, alone.stderr
    document = json.loads(alone.stdout)
    assert {**document, "checkpoint": ""} == {**evaluation, "checkpoint": ""}


@pytest.mark.slow  # test_step_however_cut has the step alone, and the tests below jobs of one and two ranks
@pytest.mark.parametrize(
    ("amp", "device_batch", "numbers"),
    [
        ("O2", 2, (1, 2, 4)),
        ("O0", 8, (1, 2, 4)),
    ],
)
def test_any_number_of_ranks_gives_the_same_weights(
    fcn4dist: Run, tiny_shards: Path, tmp_path: Path, amp: str, device_batch: int, numbers: tuple[int, ...]
) -> None:
    """Five steps, one of them an overflow, with batch norm in inference mode: the only thing that ranks compute apart.

    In O2 a device rounds the gradients of what it takes at once to float16, so it is given the same clips at once.
    """
    weights, overflows = {}, {}
    for devices in numbers:
        run = tmp_path / f"run-{devices}"
        result = fcn4dist(
            *("launch", "--devices", devices, "--data", tiny_shards, "--run-dir", run, *TINY),
            *("--set", "train.epochs=1", "--set", f"train.amp={amp}", "--set", "train.loss_scale=dynamic"),
            *("--set", f"train.device_batch={device_batch}"),
            *("--set", "train.freeze_batch_norm=true", "--set", "evaluate.num_resamples=0"),
        )
        assert result.returncode == 0, result.stderr
        steps = [lines_of(run / "metrics" / f"rank-{rank}.jsonl") for rank in range(devices)]
        overflows[devices] = {json.dumps([line["overflow"] for line in rank]) for rank in steps}
        weights[devices] = load_weights(run)
    assert all(found == overflows[1] for found in overflows.values())
    assert sum(json.loads(overflows[1].pop())) == 1
    for devices in numbers[1:]:
        for name, values in weights[1].items():
            scale = np.abs(values).max()
            np.testing.assert_allclose(weights[devices][name], values, rtol=1e-6, atol=1e-6 * scale, err_msg=name)


def test_unknown_labels_train_alike_on_two_ranks_and_are_in_no_figure(
    fcn4dist: Run, unknown_shards: Path, tmp_path: Path
) -> None:
    """One process with all eight clips at once against two ranks that accumulate two by two: known labels are spread unevenly."""
    common = ["--data", unknown_shards, *TINY, "--set", "train.epochs=1", "--set", "train.freeze_batch_norm=true"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert (result := fcn4dist("train", "--run-dir", one, *common)).returncode == 0, result.stderr
    parts = ("--devices", 2, "--set", "train.device_batch=2")
    assert (result := fcn4dist("launch", "--run-dir", two, *parts, *common)).returncode == 0, result.stderr
    losses = [[line["loss"] for line in lines_of(run / "metrics" / "rank-0.jsonl")] for run in (one, two)]
    assert len(losses[0]) == 5
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for name, values in load_weights(one).items():
        scale = np.abs(values).max()
        np.testing.assert_allclose(load_weights(two)[name], values, rtol=1e-5, atol=1e-5 * scale, err_msg=name)
    evaluation, scores = json.loads((two / "evaluation.json").read_text()), np.load(two / "scores.npz")
    for i, tag in enumerate(evaluation["tags"]):
        known = scores["labels"][:, i] >= 0
        assert tag["unknown"] == (~known).sum() > 0
        assert tag["roc_auc"] == pytest.approx(
            roc_auc_score(scores["labels"][known, i], scores["scores"][known, i]), abs=1e-12
        )


def test_train_in_one_process_gives_what_launch_gives_and_resumes(
    fcn4dist: Run, tiny_shards: Path, tmp_path: Path
) -> None:
    common = ["--data", tiny_shards, *TINY, "--set", "train.epochs=2", "--set", "evaluate.num_resamples=0"]
    one, two = tmp_path / "one", tmp_path / "two"
    result = fcn4dist("train", "--run-dir", one, *common)
    assert result.returncode == 0, result.stderr
    assert "epoch: 1 step: 5, loss is" in result.stdout + result.stderr
    assert fcn4dist("launch", "--devices", 1, "--run-dir", two, *common).returncode == 0
    for name, values in load_weights(one).items():
        np.testing.assert_array_equal(load_weights(two)[name], values, err_msg=name)
    assert epoch_order(40, 1, 0)[:8].tolist() != lines_of(one / "metrics" / "rank-0.jsonl")[1]["clip_ids"]


def test_a_user_error_in_a_worker_is_one_message_with_exit_code_2(
    fcn4dist: Run, tiny_shards: Path, tmp_path: Path
) -> None:
    (tmp_path / "weights.ckpt").write_bytes(b"not a checkpoint")
    result = fcn4dist(
        *("launch", "--devices", 2, "--data", tiny_shards, "--run-dir", tmp_path / "run", *TINY),
        *("--set", f"train.init_from={tmp_path / 'weights.ckpt'}"),
    )
    assert result.returncode == 2
    assert "weights.ckpt: not a MindSpore checkpoint" in result.stderr
    assert "Traceback" not in result.stderr
    assert processes_of(tmp_path / "run") == []


def test_rank_0_alone_measures(fcn4dist: Run, tiny_shards: Path, tmp_path: Path) -> None:
    """Scores that are no numbers are an error of whoever measures them: the other rank has scored its part and is done."""
    run = tmp_path / "run"
    result = fcn4dist(
        *("launch", "--devices", 2, "--data", tiny_shards, "--run-dir", run, *TINY),
        *("--set", "train.epochs=1", "--set", "train.lr=1e30"),
    )
    assert (result.returncode, result.stdout) == (1, "")  # not the user's input, and not "done"
    said = "step 5: the training has diverged: scores: clip 0, tag 'tag0' is nan; 13 of 13 clips have a NaN or infinite score"
    assert said in result.stderr
    assert [path.name for path in run.glob("logs/attempt-1/*.error.json")] == ["rank-0.error.json"]


@pytest.mark.parametrize("numbers", [(1, 3), pytest.param((1, 2, 8), marks=pytest.mark.slow)])
def test_any_number_of_ranks_scores_alike(
    numbers: tuple[int, ...], fcn4dist: Run, tiny_shards: Path, tmp_path: Path
) -> None:
    """A step with a learning rate of nothing leaves seeded weights alone: each run evaluates the same network."""
    documents, scores = [], []
    for devices in numbers:
        run = tmp_path / f"run-{devices}"
        result = fcn4dist(
            *("launch", "--devices", devices, "--data", tiny_shards, "--run-dir", run, *TINY),
            *("--set", "train.global_batch=24", "--set", "train.max_steps=1", "--set", "train.lr=1e-30"),
            *("--set", "train.freeze_batch_norm=true"),
        )
        assert result.returncode == 0, result.stderr
        documents.append((run / "evaluation.json").read_bytes())
        scores.append(np.load(run / "scores.npz")["logits"])
    assert len(set(documents)) == 1
    for found in scores[1:]:
        np.testing.assert_array_equal(found, scores[0])

"""The main job with real processes: launch, train, evaluate."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from jobs import NUM_TAGS, TINY, Run, load_weights, processes_of, run_here
from sklearn.metrics import average_precision_score, roc_auc_score

from fcn4dist.report.page import write_report


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


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
    # one process alone scores the same checkpoint to the same bits
    where = ("--data", tiny_shards, "--output", tmp_path / "alone")
    alone = run_here("evaluate", "--checkpoint", run / "checkpoints" / latest, *where, "--json", *TINY)
    assert alone.returncode == 0, alone.stderr
    document = json.loads(alone.stdout)
    assert {**document, "checkpoint": ""} == {**evaluation, "checkpoint": ""}
    np.testing.assert_array_equal(np.load(tmp_path / "alone" / "scores.npz")["logits"], scores["logits"])


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


@pytest.fixture(scope="module")
def uneven(unknown_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One process with all eight clips at once, and two ranks that accumulate two by two: known labels are spread unevenly.

    Two steps of the two ranks are profiled.
    """
    runs = {name: tmp_path_factory.mktemp("uneven") / f"run of {name}" for name in ("one", "two")}
    common = ["--data", unknown_shards, *TINY, "--set", "train.epochs=1", "--set", "train.freeze_batch_norm=true"]
    common += ["--set", "evaluate.num_resamples=0"]
    assert (one := run_here("train", "--run-dir", runs["one"], *common)).returncode == 0, one.stderr
    assert "epoch: 1 step: 5, loss is" in one.stdout + one.stderr
    parts = ("--devices", 2, "--set", "train.device_batch=2", "--set", "launch.profile_steps=3-4")
    assert (two := run_here("launch", "--run-dir", runs["two"], *parts, *common)).returncode == 0, two.stderr
    return runs


def test_unknown_labels_train_alike_on_two_ranks_and_are_in_no_figure(uneven: dict[str, Path]) -> None:
    one, two = uneven["one"], uneven["two"]
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


def test_two_ranks_leave_a_trace_of_the_steps_that_were_named(uneven: dict[str, Path]) -> None:
    """What MindSpore's profiler leaves, as another program reads it, and the report links to it."""
    run = uneven["two"]
    page = write_report(run, run / "report.html").read_text()
    for rank in range(2):
        (trace,) = (run / "profile" / f"rank-{rank}").glob("*/ASCEND_PROFILER_OUTPUT/trace_view.json")
        events = json.loads(trace.read_text())
        kernels = [event["name"] for event in events if event["ph"] == "X" and "-op" in event["name"]]
        assert sum("AllReduce" in name for name in kernels) == 2  # one a step
        (table,) = trace.parents[1].glob("FRAMEWORK/cpu_op_type_info_*.csv")
        rows = {row["op_type"]: row for row in csv.DictReader(table.open())}
        assert int(rows["Adam"]["type_occurrences"]) == 2 * 14  # a step has one for each trainable parameter
        assert f'href="{trace.relative_to(run)}"' in page
        assert unquote(str(trace.relative_to(run))) == str(trace.relative_to(run))
    steps = [json.loads(line)["step"] for line in (run / "metrics" / "rank-1.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5]


@pytest.mark.slow  # two ranks and one: test_two_ranks_train_evaluate_and_leave_what_is_promised
def test_any_number_of_ranks_scores_alike(fcn4dist: Run, tiny_shards: Path, tmp_path: Path) -> None:
    """A step with a learning rate of nothing leaves seeded weights alone: each run evaluates the same network."""
    documents, scores = [], []
    for devices in (1, 3, 8):
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

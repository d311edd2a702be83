"""A run with launch.track, launched and then resumed in one process, as TensorBoard and MLflow read it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from jobs import TINY, run_here
from sklearn.metrics import log_loss

pytest.importorskip("tensorboard")
pytest.importorskip("mlflow")


def test_a_run_and_its_resumption_are_one_run_of_each_tracker(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    first = run_here(
        *("launch", "--devices", 1, "--data", tiny_shards, "--run-dir", run, *TINY, "--set", "train.epochs=1"),
        *("--set", "launch.tensorboard=true", "--set", "launch.track=mlflow", "--set", "train.loss_scale=dynamic"),
    )
    assert first.returncode == 0, first.stderr
    second = run_here("train", "--resume", run, "--set", "train.epochs=2")
    assert second.returncode == 0, second.stderr
    steps = [json.loads(line) for line in (run / "metrics" / "rank-0.jsonl").read_text().splitlines()]
    evaluations = [json.loads(line) for line in (run / "metrics" / "evaluations.jsonl").read_text().splitlines()]
    assert (len(steps), len(evaluations)) == (10, 2)
    found = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()

    def points(tag: str) -> list[tuple[int, float]]:
        return [(event.step, event.value) for event in found.Scalars(tag)]

    for tag, key in (
        ("train/lr", "lr"),
        ("train/loss", "loss"),
        ("train/loss_scale", "loss_scale"),
        ("train/overflows", "num_overflows"),
        ("speed/samples_per_s", "samples_per_s"),
    ):
        expected = [(line["step"], pytest.approx(line[key], rel=1e-6)) for line in steps if line[key] is not None]
        assert points(tag) == expected
    assert points("train/overflows")[-1] == (10, 2)  # each epoch has a step that overflows
    assert points("validation/roc_auc_macro") == [
        (line["step"], pytest.approx(line["roc_auc_macro"], rel=1e-6)) for line in evaluations
    ]
    times = [event.wall_time for event in found.Scalars("train/lr")]
    assert times == sorted(times)
    assert times[4] <= evaluations[0]["time"] <= times[9] <= evaluations[1]["time"]

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # to read it; the launcher asked for it itself
    from mlflow import MlflowClient

    client = MlflowClient((run.parent / "mlruns").as_uri())
    (told,) = client.search_runs([client.get_experiment_by_name("fcn4dist").experiment_id])
    assert (told.info.status, told.data.params["train.epochs"], told.data.tags["resumed.train.epochs"]) == (
        "FINISHED",
        "1",
        "2",
    )
    losses = sorted((value.step, value.value) for value in client.get_metric_history(told.info.run_id, "train/loss"))
    assert losses == [(line["step"], line["loss"]) for line in steps if line["loss"] is not None]
    aucs = client.get_metric_history(told.info.run_id, "validation/roc_auc_macro")
    assert [(value.step, value.value) for value in aucs] == [
        (line["step"], line["roc_auc_macro"]) for line in evaluations
    ]
    best = json.loads((run / "evaluation-best.json").read_text())
    assert told.data.metrics["best/roc_auc_macro"] == best["roc_auc_macro"]
    assert told.data.tags["mindspore"]
    hardest = set()
    for name in ("scores.npz", "scores-best.npz"):
        with np.load(run / name) as arrays:
            losses = [log_loss(a, p, labels=[0, 1]) for a, p in zip(arrays["labels"], arrays["scores"], strict=True)]
            hardest |= set(arrays["clip_ids"][np.argsort(losses)[::-1][:20]].tolist())
    with np.load(run / "hardest.npz") as arrays:  # what the report draws
        assert set(arrays["clip_ids"].tolist()) == hardest
        assert (arrays["pictures"].max(axis=(1, 2)) > 200).all()

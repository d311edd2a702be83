"""Run folders made by the project's own writers, without training anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from fcn4dist.config import format_config, load_config
from fcn4dist.data.dataset import Split
from fcn4dist.evaluate.document import Evaluated, EvaluationFiles, Scores
from fcn4dist.evaluate.evaluation import evaluate_scores
from fcn4dist.evaluate.hardest import save_hardest
from fcn4dist.files import save_json, save_text
from fcn4dist.job.events import EventLog, Exited, Started
from fcn4dist.job.failure import FailedProcess, Failure, WorkerError, save_failure
from fcn4dist.job.process import ExitStatus
from fcn4dist.run.environment import describe_environment
from fcn4dist.run.folder import RunDir
from fcn4dist.run.metrics import EvaluationRecords, StepRecord, StepRecords
from fcn4dist.run.state import RankEnd

START_S = 1.7e9
HOSTILE = (
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "\"quoted\" 'twice' & more",
    "two\nlines\r\tand a tab",
    "long " * 2000,
    "</title></style><img src=x onerror=alert(2)>",
    "{{ 7 * 7 }}",
    "javascript:alert(3)",
    "\u202eright to left\x00\x1b[31m",
)
TAGS = ("guitar", "piano", "drums", "flute")


def make_run(
    folder: Path,
    *,
    tags: Sequence[str] = TAGS,
    num_steps: int = 30,
    num_ranks: int = 2,
    num_clips: int = 80,
    ends: bool = True,
    settings: Sequence[str] = (),
    seed: int = 0,
    unknown: float = 0.0,
) -> RunDir:
    """Write a whole run: one that finished, unless `ends` is false; `unknown`: the share of labels that are."""
    run = RunDir(folder)
    folder.mkdir(parents=True)
    save_text(run.config, format_config(load_config(None, settings)))
    save_json(run.environment, describe_environment(cann=None))
    save_json(run.plan, {"attempt": 1, "target": "CPU", "world_size": num_ranks})
    write_steps(run, num_steps, num_ranks)
    write_evaluations(run, tags, num_clips, seed, unknown)
    log = EventLog(run.events, 1)
    for rank in range(num_ranks):
        log.append(Started(START_S, f"rank-{rank}", 100 + rank))
    lines = [
        {
            "time": START_S + 2 * i,
            "attempt": 1,
            "processes": {
                f"rank-{r}": {"cpu_percent": 90.0 + r, "memory_bytes": (1 + i) << 26} for r in range(num_ranks)
            },
            "host": {"cpu_percent": 80.0, "free_bytes": 1 << 33},
        }
        for i in range(10)
    ]
    save_text(run.usage, "".join(json.dumps(line) + "\n" for line in lines))
    run.logs(1).mkdir(parents=True, exist_ok=True)
    if ends:
        for rank in range(num_ranks):
            log.append(Exited(START_S + 60, f"rank-{rank}", ExitStatus(0)))
            save_json(run.end(1, f"rank-{rank}"), asdict(RankEnd(num_steps, num_steps)))
    return run


def write_steps(run: RunDir, num_steps: int, num_ranks: int) -> None:
    """Rank r waits 2 + 10 r ms for data, so all wait for the last rank; step 7 overflows."""
    step_s = 0.1 + 0.01 * num_ranks
    for rank in range(num_ranks):
        records = StepRecords(run.metrics(rank), 0)
        for step in range(1, num_steps + 1):
            record = StepRecord(
                step=step,
                epoch=1 + step // 10,
                loss=None if step == 7 else 1.0 / step,
                lr=0.001,
                loss_scale=1024.0,
                overflow=step == 7,
                samples_per_s=16 / step_s,
                data_wait_s=0.002 + 0.01 * rank,
                checkpoint_wait_s=0.0,
                step_s=step_s,
                num_steps=num_steps,
                num_overflows=int(step >= 7),
                time_left_s=None if step == 1 else 1.0,
                clip_ids=[step],
            )
            records.add(replace(record))
        records.close()


def write_evaluations(run: RunDir, tags: Sequence[str], num_clips: int, seed: int, unknown: float = 0.0) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random((num_clips, len(tags))) < 0.3).astype(np.int32)
    labels[0], labels[1] = 1, 0
    scores = np.clip(0.3 + 0.3 * labels + rng.normal(0, 0.2, labels.shape), 0.01, 0.99).astype(np.float32)
    labels[2:][rng.random((num_clips - 2, len(tags))) < unknown] = -1
    ids = np.arange(num_clips, dtype=np.int32)
    about = Evaluated("val", "folds:folds.csv:5", num_clips)
    evaluation = evaluate_scores(Scores(ids, labels, scores), tuple(tags), about, None, num_resamples=50)
    records = EvaluationRecords(run, 0)
    for epoch in range(1, 4):
        records.add(10 * epoch, epoch, evaluation.headline)
    EvaluationFiles.in_folder(run.path).save(evaluation, "checkpoints/step-00000030")


def make_heard_run(folder: Path) -> RunDir:
    """Write a run whose data set is at hand ("song é 3.wav" is clip 3), and that kept the pictures of its hardest
    clips: each is silent but for its two lowest bands in its first three frames."""
    data = folder.parent / f"{folder.name} data"
    data.mkdir(parents=True)
    rows = "".join(f"{i}\tsong é {i}.wav\n" for i in range(80))
    (data / "clips.tsv").write_text("clip_id\tmp3_path\n" + rows, encoding="utf-8")
    run = make_run(folder, settings=[f"data.records_dir={data}", f"data.audio_dir={data}"])
    for clip in range(80):
        soundfile.write(data / f"song é {clip}.wav", np.zeros(800), 8000)
    features = np.full((80, 1, 96, 400), -120.0, np.float32)
    features[:, 0, :2, :3] = 0.0
    split = StandInSplit(np.random.default_rng(3).permutation(80).astype(np.int32), features)
    scores = EvaluationFiles.in_folder(run.path).load_scores()
    save_hardest(run.hardest, cast(Split, split), [scores])
    return run


@dataclass(frozen=True)
class StandInSplit:
    """A part of a data set, in memory."""

    clip_ids: NDArray[np.int32]
    features: NDArray[np.float32]

    def read(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.features[positions]


def add_failure(run: RunDir, message: str = "loss is nan") -> None:
    """Let rank 1 have failed for good."""
    error = WorkerError(START_S, "ValueError", message, f"Traceback\nValueError: {message}", 1)
    culprit = FailedProcess("rank-1", 1, "node-a", 1, None, None, error, "rank-1.log", ["last line"])
    other = FailedProcess("rank-0", 0, "node-a", None, "SIGKILL", "ended by the launcher", None, "rank-0.log", [])
    save_failure(Failure(1, START_S + 50, culprit, (other,), ("try again",)), run)

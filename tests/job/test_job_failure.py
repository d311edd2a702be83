from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from fcn4dist.errors import DataError
from fcn4dist.job.events import Exited, WallClock
from fcn4dist.job.failure import explain_failure, format_failure, load_error, save_error, save_failure, tail
from fcn4dist.job.process import ExitStatus
from fcn4dist.job.stall import Stall
from fcn4dist.job.state import Outcome
from fcn4dist.run.folder import RunDir
from fcn4dist.run.pulse import Pulse

TERMED, KILLED = ExitStatus(None, signal.SIGTERM), ExitStatus(None, signal.SIGKILL)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run_dir = RunDir(tmp_path)
    run_dir.logs(1).mkdir(parents=True)
    return run_dir


def fail_with(run: RunDir, process: str, exception: Exception, at_s: float) -> None:
    """Leave what a worker leaves when `exception` ends it at `at_s`."""
    try:
        raise exception
    except Exception as caught:
        save_error(run.error(1, process), caught)
    document = json.loads(run.error(1, process).read_text())
    run.error(1, process).write_text(json.dumps({**document, "monotonic_s": at_s - WallClock.at(0.0)}))


def test_an_exception_is_kept_with_its_traceback_and_exit_code(run: RunDir) -> None:
    fail_with(run, "rank-0", ZeroDivisionError("division by zero"), 5.0)
    error = load_error(run.error(1, "rank-0"))
    assert error is not None
    assert error.time_s == pytest.approx(5.0, abs=1e-5)
    assert (error.type, error.message, error.exit_code) == ("ZeroDivisionError", "division by zero", 1)
    assert "in fail_with" in error.traceback
    fail_with(run, "rank-1", DataError("no clips"), 5.0)
    error = load_error(run.error(1, "rank-1"))
    assert error is not None
    assert (error.type, error.exit_code) == ("DataError", 2)


def test_a_disk_that_refuses_the_account_does_not_hide_the_exception(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save_error(tmp_path / "no-such-folder" / "rank-0.error.json", ValueError("the true reason"))
    assert "cannot be written" in capfd.readouterr().err


def test_half_an_account_counts_as_none(run: RunDir) -> None:
    run.error(1, "rank-0").write_text('{"type": "Val')
    assert load_error(run.error(1, "rank-0")) is None
    run.error(1, "rank-0").write_text('{"type": "ValueError"}')
    assert load_error(run.error(1, "rank-0")) is None


def test_the_culprit_is_the_first_exception_even_if_its_process_ends_later(run: RunDir) -> None:
    fail_with(run, "rank-1", ValueError("bad loss"), 10.0)  # raises first, but is slow to end
    fail_with(run, "rank-0", RuntimeError("AllReduce failed"), 10.2)
    outcome = Outcome("failure", None, (Exited(10.3, "rank-0", ExitStatus(1)),), (Exited(10.4, "rank-1", TERMED),))
    failure = explain_failure(outcome, run, 1, "node-a")
    assert (failure.culprit.rank, failure.culprit.exit_code, failure.culprit.signal) == (1, 1, None)
    text = format_failure(failure, run)
    assert text.startswith("rank 1 on node-a failed first: ValueError: bad loss\n")
    assert "consequence: rank 0: RuntimeError: AllReduce failed" in text
    assert str(run.log(1, "rank-1")) in text


def test_a_wall_clock_that_is_set_meanwhile_names_nobody_else(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """NTP sets the clock back by an hour between the first failure and what follows from it."""
    clock = WallClock()
    save_error(run.error(1, "rank-1"), ValueError("bad loss"))
    monkeypatch.setattr(time, "time", lambda real=time.time: real() - 3600)
    save_error(run.error(1, "rank-0"), RuntimeError("AllReduce failed"))
    killed = Exited(clock(), "rank-2", KILLED)  # without a word of its own
    outcome = Outcome(
        "failure", None, (killed, Exited(clock(), "rank-0", ExitStatus(1))), (Exited(clock(), "rank-1", TERMED),)
    )
    failure = explain_failure(outcome, run, 1, "node-a")
    assert failure.culprit.rank == 1
    error = load_error(run.error(1, "rank-0"))
    assert error is not None
    assert abs(error.time_s - failure.time_s) < 60


def test_a_hang_in_which_nobody_stands_apart_names_the_collective(run: RunDir) -> None:
    stall = Stall(600, {"rank-0": Pulse("step", 7), "rank-1": Pulse("step", 7)})
    asked = ExitStatus(None, signal.SIGUSR2)  # to write its stacks, before it could
    exits = (Exited(3.1, "rank-0", asked), Exited(3.2, "rank-1", KILLED))
    failure = explain_failure(Outcome("failure", None, (), exits, stall), run, 1, "node-a")
    assert (failure.culprit.rank, failure.culprit.process) == (None, "collective of step 7")
    assert format_failure(failure, run).startswith(
        "the job hung in the collective of step 7 on node-a, and no rank stands apart: no step was finished for 600 s: "
        "rank-0, rank-1 in step 7\n"
    )
    assert [other.hint for other in failure.consequences] == ["ended by the launcher"] * 2
    assert "consequence" not in format_failure(failure, run)
    assert f"stacks of all ranks: {run.logs(1)}/*.stack" in format_failure(failure, run)


def test_a_killed_rank_is_named_by_signal_with_the_usual_suspect(run: RunDir) -> None:
    run.log(1, "rank-1").write_text("\n".join(f"line {n}" for n in range(100)))
    others = (Exited(3.1, "rank-0", TERMED), Exited(3.2, "scheduler", KILLED))
    failure = explain_failure(Outcome("failure", None, (Exited(3.0, "rank-1", KILLED),), others), run, 1, "node-a")
    save_failure(failure, run)
    document = json.loads(run.failure.read_text())
    culprit = document["culprit"]
    assert (culprit["rank"], culprit["host"], culprit["signal"], culprit["exit_code"]) == (1, "node-a", "SIGKILL", None)
    assert "out-of-memory" in culprit["hint"]
    assert culprit["last_lines"] == [f"line {n}" for n in range(70, 100)]
    assert [other["hint"] for other in document["consequences"]] == ["ended by the launcher"] * 2
    text = format_failure(failure, run)
    assert "rank 1 on node-a failed first: killed by SIGKILL" in text
    assert "line 99" in text
    assert "consequence" not in text  # nobody else met an error


def test_a_users_mistake_is_its_message_alone(run: RunDir) -> None:
    fail_with(run, "rank-0", DataError("shard 3: damaged"), 1.0)
    fail_with(run, "rank-1", DataError("shard 3: damaged"), 1.1)
    failures = (Exited(1.2, "rank-0", ExitStatus(2)), Exited(1.3, "rank-1", ExitStatus(2)))
    failure = explain_failure(Outcome("failure", None, failures), run, 1, "node-a")
    assert failure.is_user_error
    assert format_failure(failure, run) == "shard 3: damaged"


def test_the_scheduler_can_be_the_culprit(run: RunDir) -> None:
    failure = explain_failure(
        Outcome("failure", None, (Exited(1.0, "scheduler", ExitStatus(0)),), (Exited(2.0, "rank-0", TERMED),)),
        run,
        1,
        "h",
    )
    assert failure.culprit.rank is None
    assert "the scheduler on h failed first: exit code 0 (it ended while ranks still needed it)" in format_failure(
        failure, run
    )


def test_the_tail_of_a_huge_log_is_cheap_and_survives_bad_bytes(tmp_path: Path) -> None:
    log = tmp_path / "rank-0.log"
    with log.open("wb") as file:
        file.truncate(3 << 30)  # sparse
        file.seek(0, 2)
        file.write(b"\nlast but one \xff\nlast\n")
    assert tail(log)[-2:] == ["last but one �", "last"]
    assert tail(tmp_path / "none.log") == []

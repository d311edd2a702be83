"""A worker whose rank 1 is killed after the collective of step 3 and before it has written its line of that step."""

from __future__ import annotations

import os
import signal
from typing import Any

from fcn4dist.run.checkpoints import Progress
from fcn4dist.train import worker
from fcn4dist.train.records import RankRecords

STEP = 3
add = RankRecords.add


def add_or_die(self: RankRecords, progress: Progress, *rest: Any) -> None:
    if progress.step == STEP and not self._is_chief:
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, progress, *rest)


if __name__ == "__main__":
    RankRecords.add = add_or_die  # type: ignore[method-assign, assignment]
    worker.main()

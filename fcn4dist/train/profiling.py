"""MindSpore's profiler around some steps of a rank (launch.profile_steps); what it finds stands in RUN/profile/rank-K.

`mindspore.profiler.profile` is in MindSpore 2.7 and later. It starts and stops as asked here, and parses what it has collected as
it stops: a folder whose name ends in _ascend_ms, whatever the device, with trace_view.json (Chrome's trace format) and, on
Ascend, tables of operators, kernels and communication. It reports its own failures in the log and raises none.
"""

from __future__ import annotations

import logging
from pathlib import Path

import mindspore as ms

from fcn4dist.config import StepRange
from fcn4dist.run.folder import list_traces

logger = logging.getLogger(__name__)


class StepProfiler:
    """Profiles the steps of a range; in a `with` block, so that a run which is stopped within the range keeps what there is."""

    def __init__(self, asked: StepRange | None, folder: Path, done: int, num_steps: int) -> None:
        """This session makes the steps after `done` to `num_steps`; where less than `asked` is left, that is logged."""
        self._steps, self._folder = asked, folder
        self._profile: ms.profiler.profile | None = None
        if asked is None:
            return
        found = StepRange(max(asked.first, done + 1), min(asked.last, num_steps))
        self._steps = found if found.first <= found.last else None
        if self._steps != asked:
            what = f"{found} are profiled" if self._steps else "nothing is profiled"
            logger.warning("launch.profile_steps %s: steps %d to %d are left, so %s", asked, done + 1, num_steps, what)

    def __enter__(self) -> StepProfiler:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:  # after a failure nothing may keep this rank from ending
            self._stop()

    def before(self, step: int) -> None:
        """Start where `step` (1-based) is the first of the range that this process makes."""
        if self._steps is None or self._profile is not None or not self._steps.first <= step <= self._steps.last:
            return
        from mindspore import profiler  # not at the top: it is large, and seldom asked for

        on_npu = ms.get_context("device_target") == "Ascend"
        activities = [profiler.ProfilerActivity.CPU, *([profiler.ProfilerActivity.NPU] if on_npu else [])]
        self._profile = profiler.profile(
            activities=activities,
            start_profile=False,
            on_trace_ready=profiler.tensorboard_trace_handler(str(self._folder)),
        )
        self._profile.start()
        logger.info("profiling from step %d to %d", step, self._steps.last)

    def is_end(self, step: int) -> bool:
        """Return whether `after` has something to stop, which may take minutes on an NPU."""
        return self._profile is not None and self._steps is not None and step >= self._steps.last

    def after(self, step: int) -> None:
        """Stop where `step` is the last of the range, and parse."""
        if self.is_end(step):
            self._stop()

    def _stop(self) -> None:
        profile, self._profile = self._profile, None
        if profile is None:
            return
        profile.stop()
        if list_traces(self._folder):
            logger.info("profiled: %s", self._folder)
        else:
            logger.warning("%s: MindSpore's profiler left no trace; its own words are above", self._folder)

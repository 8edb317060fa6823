"""Hooks that configs name and whose work the training loop does by itself, or that concern parts that are not here.

They are listed with their arguments, so that a config is checked in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from omnidet.engine.distributed import share_buffers
from omnidet.engine.hooks.base import Hook
from omnidet.registry import HOOKS

if TYPE_CHECKING:
    from omnidet.engine.run import Run


@HOOKS.register
class IterTimerHook(Hook):
    """The loop measures the time of each iteration and of its data."""


@HOOKS.register
class ParamSchedulerHook(Hook):
    """The loop reads every setting of the optimizer from its schedule."""


@HOOKS.register
class DistSamplerSeedHook(Hook):
    """The loop tells the loader each epoch's number."""


@HOOKS.register
class RuntimeInfoHook(Hook):
    """The loop keeps epoch, iteration and losses."""


@HOOKS.register
class SyncBuffersHook(Hook):
    """Make buffers equal on all processes after each epoch; the loop also does so before it validates or saves."""

    def after_epoch(self, run: Run) -> None:
        share_buffers(run.model)


@HOOKS.register
class SyncNormHook(SyncBuffersHook):
    """`SyncBuffersHook` under an older name."""


@HOOKS.register
class EmptyCacheHook(Hook):
    """Accepted: the allocator of today's torch keeps its blocks to good use.

    Args:
        before_epoch: accepted.
        after_epoch: accepted.
        after_iter: accepted.
    """

    def __init__(self, before_epoch: bool = False, after_epoch: bool = True, after_iter: bool = False) -> None: ...


@HOOKS.register
class MemoryProfilerHook(Hook):
    """Accepted: every line of the log has the memory in use.

    Args:
        interval: accepted.
    """

    def __init__(self, interval: int = 50) -> None: ...


@HOOKS.register
class DetVisualizationHook(Hook):
    """Accepted: pictures are drawn by `omnidet predict` and by `omnidet test --show-dir`.

    Args:
        draw, interval, score_thr, show, wait_time, test_out_dir, backend_args: accepted.
    """

    def __init__(self, draw: bool = False, interval: int = 50, score_thr: float = 0.3, show: bool = False,
                 wait_time: float = 0.0, test_out_dir: str | None = None,
                 backend_args: Mapping[str, Any] | None = None) -> None: ...


@HOOKS.register
class GroundingVisualizationHook(DetVisualizationHook):
    """See `DetVisualizationHook`."""


@HOOKS.register
class TrackVisualizationHook(Hook):
    """See `DetVisualizationHook`.

    Args:
        draw, frame_interval, score_thr, show, wait_time, test_out_dir, backend_args: accepted.
    """

    def __init__(self, draw: bool = False, frame_interval: int = 30, score_thr: float = 0.3, show: bool = False,
                 wait_time: float = 0.0, test_out_dir: str | None = None,
                 backend_args: Mapping[str, Any] | None = None) -> None: ...


@HOOKS.register
class ProfilerHook(Hook):
    """Accepted: profile with torch's own tools.

    Args:
        by_epoch, profile_times, activity_with_cpu, activity_with_cuda, schedule, on_trace_ready, record_shapes,
            profile_memory, with_stack, with_flops, json_trace_path: accepted.
    """

    def __init__(self, by_epoch: bool = True, profile_times: int = 1, activity_with_cpu: bool = True,
                 activity_with_cuda: bool = False, schedule: Any = None, on_trace_ready: Any = None,
                 record_shapes: bool = False, profile_memory: bool = False, with_stack: bool = False,
                 with_flops: bool = False, json_trace_path: str | None = None) -> None: ...

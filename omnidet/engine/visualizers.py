"""`visualizer`, `vis_backends` and `log_processor` of a config with their arguments, so that it is checked in full.

A run reads one thing of them: whether TensorBoard is asked for. Pictures are drawn by `omnidet predict`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omnidet.registry import VISUALIZERS


@VISUALIZERS.register
@dataclass
class DetLocalVisualizer:
    """Draws detections, in MMDetection. Its `vis_backends` say where records go."""

    name: str = 'visualizer'
    image: Any = None
    vis_backends: Sequence[Mapping[str, Any]] | None = None
    save_dir: str | None = None
    bbox_color: Any = None
    text_color: Any = (200, 200, 200)
    mask_color: Any = None
    line_width: int | float = 3
    alpha: float = 0.8


@VISUALIZERS.register
@dataclass
class LocalVisBackend:
    """Records in the work folder: `log.jsonl`, always."""

    save_dir: str | None = None
    img_save_dir: str = 'vis_image'
    config_save_file: str = 'config.py'
    scalar_save_file: str = 'scalars.json'


@VISUALIZERS.register
@dataclass
class TensorboardVisBackend:
    """Records in TensorBoard's files too, in `tensorboard/` of the work folder, where it is installed."""

    save_dir: str | None = None


@VISUALIZERS.register
@dataclass
class WandbVisBackend:
    """Accepted; nothing is sent anywhere."""

    save_dir: str | None = None
    init_kwargs: Mapping[str, Any] | None = None
    define_metric_cfg: Any = None
    commit: bool = True
    log_code_name: str | None = None
    watch_kwargs: Mapping[str, Any] | None = None


@VISUALIZERS.register
@dataclass
class LogProcessor:
    """How MMEngine's lines are made; ours have the means since the last line, and both epoch and iteration."""

    window_size: int = 10
    by_epoch: bool = True
    custom_cfg: Sequence[Mapping[str, Any]] | None = None
    num_digits: int = 4
    log_with_hierarchy: bool = False
    mean_pattern: str = r'.*(loss|time|data_time|grad_norm).*'

"""The demo: render a data set, train on it, score, draw, and say what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from omnidet.config import load_config
from omnidet.config.data_root import set_data_root
from omnidet.demo.shapes import write_dataset
from omnidet.engine import pick_device, train
from omnidet.files import written_whole
from omnidet.inference import Detector
from omnidet.visualization import contact_sheet, draw

CONFIG = 'demo/rtmdet_shapes'
IMAGES = {'train': 400, 'val': 64}


def run_demo(out: Path, epochs: int | None = None, seed: int = 0, device: str | None = None,
             images: dict[str, int] | None = None) -> dict[str, Any]:
    """Train a small RTMDet on rendered shapes.

    Args:
        out: the folder for everything: `data/`, `run/` (checkpoint, log, curves), `predictions.jpg`.
        epochs: how long to train; the config's number by default.
        seed: of the pictures and of training.
        device: as for `omnidet train`.
        images: how many of each split, in place of `IMAGES`.

    Returns:
        what the training returned: metrics, paths, seconds.
    """
    pick_device(device)    # a name that is none should not be noticed after a quarter of a minute
    images = images or IMAGES
    print(f'rendering {images["train"]} pictures to learn from and {images["val"]} to be judged on: {out / "data"}')
    write_dataset(out / 'data', images, seed)

    cfg = load_config(CONFIG)
    set_data_root(cfg, out / 'data', splits=('train', 'val'))
    if epochs is not None:
        set_epochs(cfg, epochs)
    outcome = train(cfg, work_dir=out / 'run', seed=seed, device=device)

    sheet = out / 'predictions.jpg'
    write_sheet(sheet, Detector(cfg, outcome['checkpoint'], device), sorted((out / 'data' / 'val').glob('*.png'))[:24])
    print_next_steps(out, outcome, sheet)
    return outcome


def set_epochs(cfg: Any, epochs: int) -> None:
    """Shorten or lengthen the recipe, in place: the second half of the epochs anneals, and the last one is scored."""
    cfg.train_cfg.update(max_epochs=epochs, val_interval=max(1, epochs // 4))
    cfg.default_hooks.checkpoint.interval = epochs
    for scheduler in cfg.param_scheduler:
        if scheduler['type'] == 'CosineAnnealingLR':
            scheduler.update(begin=epochs // 2, end=epochs, T_max=epochs - epochs // 2)


def write_sheet(path: Path, detector: Detector, images: list[Path], zoom: int = 2, score_thr: float = 0.4) -> None:
    """One picture with the detections in all of `images`, enlarged so that the labels can be read."""
    drawn = []
    for image_path, result in zip(images, detector(images, batch_size=8), strict=True):
        image = cv2.imdecode(np.fromfile(image_path, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None    # rendered a moment ago
        enlarged = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
        result = result.replace(boxes=result.boxes * zoom)
        drawn.append(draw(enlarged, result, detector.classes, score_thr))
    with written_whole(path) as temporary:
        temporary.write_bytes(cv2.imencode('.jpg', contact_sheet(drawn, columns=6))[1].tobytes())


def print_next_steps(out: Path, outcome: dict[str, Any], sheet: Path) -> None:
    """Say what lies where, and what to try next."""
    print(f"""
What is in {out}:
  {sheet}: what the detector finds in pictures that it has not seen
  {out / 'run'}: its checkpoint, log and curves
  {out / 'data'}: the pictures and their boxes, in COCO's format

What to do next:
  omnidet predict {CONFIG} {outcome['checkpoint']} {out / 'data' / 'val'}
  omnidet config show {CONFIG}
  train on your own images: docs/getting-started.md""")

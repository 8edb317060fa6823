"""Images per second: of a model, of a loader, and of a data set's samples."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from omnidet.analysis.results import measured_split
from omnidet.checkpoints import load_checkpoint, load_weights
from omnidet.data import build_loader, build_preprocessor
from omnidet.engine.distributed import pick_device
from omnidet.errors import ConfigError
from omnidet.inference.fuse import fuse_conv_bn
from omnidet.models import build_model
from omnidet.structures import Batch, ImageMeta

TASKS = ('inference', 'dataloader', 'dataset')


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Attributes:
        seconds: of each measured step.
        images: in each step.
        shape: (h, w) of the first step's images; None where samples were not collated.
    """

    seconds: list[float]
    images: list[int]
    shape: tuple[int, int] | None

    @property
    def rate(self) -> float:
        """Images per second over all steps."""
        return sum(self.images) / max(sum(self.seconds), 1e-12)

    @property
    def latency(self) -> tuple[float, float]:
        """Median and 95th percentile of a step, in seconds."""
        ordered = sorted(self.seconds)
        return statistics.median(ordered), ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


def model_speed(cfg: Mapping[str, Any], checkpoint: str | Path | None = None, device: str | None = None,
                steps: int = 200, warmup: int = 5, fuse: bool = False, half: bool = False,
                shape: tuple[int, int] | None = None, batch_size: int | None = None, trust: bool = False,
                tell: Callable[[int, float], None] | None = None) -> Speed:
    """Time from images on the device to results: normalisation, model and post-processing.

    Args:
        cfg: a whole config.
        checkpoint: the weights; random ones find other objects, which changes the time of what comes after the network.
        device: the best there is where None.
        steps: how many batches are measured; fewer where the data ends.
        warmup: how many are run before that.
        fuse: fold batch norms into convolutions first.
        half: in half precision (bfloat16 on a CPU).
        shape: (h, w) of random images, in place of those of the test set.
        batch_size: in place of the config's; 1 for random images.
        trust: load a checkpoint that may run code.
        tell: is called with the number of steps so far and the images per second.
    """
    place = pick_device(device)
    model = build_model(cfg)
    if checkpoint is not None:
        load_weights(model, load_checkpoint(checkpoint, trust=trust)['state_dict'], str(checkpoint))
    model = fuse_conv_bn(model) if fuse else model.eval()
    model.requires_grad_(False).to(place).to(memory_format=torch.channels_last)
    preprocessor = build_preprocessor(cfg['model'].get('data_preprocessor')).to(place).eval()
    batches = _random_batches(shape, batch_size or 1) if shape is not None else iter(_loader(
        cfg, measured_split(cfg), place, batch_size))

    def run(batch: Batch) -> None:
        with torch.no_grad(), torch.autocast(place.type, torch.bfloat16 if place.type == 'cpu' else torch.float16,
                                             enabled=half):
            ready = preprocessor(batch)
            model.predict(ready.images.contiguous(memory_format=torch.channels_last), ready.metas)    # type: ignore[operator]
        if place.type == 'cuda':
            torch.cuda.synchronize(place)
    return _measure((batch.to(place) for batch in batches), run, steps, warmup, tell)


def loader_speed(cfg: Mapping[str, Any], split: str = 'train', steps: int = 200, warmup: int = 5,
                 tell: Callable[[int, float], None] | None = None) -> Speed:
    """Time that a training which computes nothing would wait for its batches."""
    return _measure(iter(_loader(cfg, split, torch.device('cpu'))), None, steps, warmup, tell)


def dataset_speed(cfg: Mapping[str, Any], split: str = 'train', steps: int = 200, warmup: int = 5,
                  tell: Callable[[int, float], None] | None = None) -> Speed:
    """Time of one sample, from file to tensors, in this process."""
    dataset = _loader(cfg, split, torch.device('cpu')).dataset
    return _measure((dataset[i % len(dataset)] for i in range(steps + warmup)), None, steps, warmup, tell)


def _loader(cfg: Mapping[str, Any], split: str, device: torch.device, batch_size: int | None = None) -> Any:
    dataloader = cfg.get(f'{split}_dataloader')
    if not dataloader:
        raise ConfigError(f'the config has no {split}_dataloader, so there is nothing to load')
    if batch_size is not None:
        dataloader = {**dataloader, 'batch_size': batch_size}
    return build_loader(dataloader, train=split == 'train', device_type=device.type)


def _random_batches(shape: tuple[int, int], batch_size: int) -> Iterator[Batch]:
    images = torch.randint(0, 256, (batch_size, 3, *shape), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(0))
    while True:
        yield Batch(images, [ImageMeta(shape, shape, pad_shape=shape) for _ in range(batch_size)])


def _measure(items: Iterator[Any], run: Callable[[Any], None] | None, steps: int, warmup: int,
             tell: Callable[[int, float], None] | None) -> Speed:
    """Time `run` on each item, or where it is None, the making of the items."""
    seconds: list[float] = []
    images: list[int] = []
    shape = None
    started = time.perf_counter()
    for n, item in enumerate(items):
        if run is not None:
            started = time.perf_counter()
            run(item)
        now = time.perf_counter()
        if n >= warmup:
            seconds.append(now - started)
            images.append(len(item) if isinstance(item, Batch) else 1)
            if shape is None and isinstance(item, Batch):
                shape = (item.images.shape[-2], item.images.shape[-1])
            if tell is not None:
                tell(len(seconds), sum(images) / sum(seconds))
        if len(seconds) >= steps:
            break
        started = time.perf_counter()
    if not seconds:
        raise ConfigError(f'there is nothing to measure: the data ends within the {warmup} steps that warm up '
                          '(--num-warmup)')
    return Speed(seconds, images, shape)

"""A training holds as much memory after 500 steps as after 100, however many objects its images have."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tiny_parts import at

import omnidet
from omnidet.engine import train
from omnidet.registry import DATASETS
from omnidet.structures import ImageMeta, Sample

SIDE, CLASSES = 32, ('a', 'b', 'c')
STEPS, FEWER = (100, 500), (40, 140)    # between which the growth is measured
STATM = Path('/proc/self/statm')
MEGABYTE = 2 ** 20
MOST_GROWTH, MOST_TENSORS = 3 * MEGABYTE, 10
pytestmark = pytest.mark.skipif(not STATM.exists(), reason='the system does not say how much memory a process holds')


class Held(NamedTuple):
    """What the process holds: bytes in memory, and tensors that Python knows."""

    memory: int
    tensors: int


@DATASETS.register
class CrowdDataset:
    """Images of noise with 0 to 60 objects, for so many batches of two."""

    def __init__(self, batches: int, classes: Any = CLASSES, pipeline: Any = (), test_mode: bool = False) -> None:
        self.batches = batches
        self.classes = CLASSES
        self.metainfo = {'classes': CLASSES, 'palette': [(0, 0, 0)] * len(CLASSES)}

    def __len__(self) -> int:
        return 2 * self.batches

    def __getitem__(self, key: tuple[int, ...]) -> Sample:
        luck = torch.Generator().manual_seed(key[1])
        G = int(torch.randint(0, 61, (), generator=luck))
        corner, size = (torch.rand(G, 2, generator=luck) * SIDE / 2 for _ in range(2))
        target = {'boxes': torch.cat([corner, corner + 1 + size], 1),
                  'labels': torch.randint(0, len(CLASSES), (G,), generator=luck)}
        image = torch.randint(0, 256, (3, SIDE, SIDE), generator=luck, dtype=torch.uint8)
        return Sample(image, target, ImageMeta((SIDE, SIDE), (SIDE, SIDE), img_id=key[1]))


def grid() -> Any:
    """RetinaNet, as small as it gets."""
    model = omnidet.load_config('retinanet/retinanet_r18_fpn_1x_coco').model
    model.backbone.update(base_channels=4, init_cfg=None)
    model.neck.update(in_channels=[4, 8, 16, 32], out_channels=8)
    model.bbox_head.update(in_channels=8, feat_channels=8, stacked_convs=1, num_classes=len(CLASSES))
    return model


def query() -> Any:
    """DETR, as small as it gets, with fewer queries than objects."""
    model = omnidet.load_config('detr/detr_r50_8xb2-150e_coco').model
    model.backbone.update(depth=18, base_channels=4, out_indices=(1,), init_cfg=None)
    model.neck.update(in_channels=[8], out_channels=16)
    for part in (model.encoder, model.decoder):
        part.num_layers = 2
        for name, cfg in part.layer_cfg.items():
            cfg.update(dict(embed_dims=16, feedforward_channels=16) if name == 'ffn_cfg' else
                       dict(embed_dims=16, num_heads=2))
    model.positional_encoding.num_feats = 8
    model.bbox_head.update(embed_dims=16, num_classes=len(CLASSES))
    model.num_queries = 30
    return model


def held() -> Held:
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL('libc.so.6').malloc_trim(0)    # what is free goes back to the system
    pages = int(STATM.read_text().split()[1])
    return Held(pages * os.sysconf('SC_PAGE_SIZE'), sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()))


def growth(model: Any, folder: Path, steps: tuple[int, int], keep: Any = None) -> Held:
    """How much more is held after the later of two steps; `keep` is given the losses of every step."""
    marks = []

    def wrap(run: Any) -> None:
        loss = run.model.loss

        def kept(*args: Any) -> Any:
            out = loss(*args)
            if keep is not None:
                keep(out)
            return out
        run.model.loss = kept

    def mark(run: Any, batch: Any, losses: Any) -> None:
        if run.iter + 1 in steps:
            marks.append(held())

    cfg = dict(model=model, train_dataloader=dict(batch_size=2, num_workers=0,
                                     dataset=dict(type='CrowdDataset', batches=steps[1])),
               train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1),
               optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-4, momentum=0.9), clip_grad=dict(max_norm=1)),
               default_hooks=dict(logger=dict(type='LoggerHook', interval=50)),
               custom_hooks=[at('before_train', wrap), at('after_iter', mark)], visualizer=dict(vis_backends=[]))
    train(cfg, work_dir=folder, device='cpu', quiet=True, seed=0)
    assert len(marks) == 2
    return Held(*(b - a for a, b in zip(*marks, strict=True)))


def is_flat(grown: Held) -> bool:
    """Whether nothing is kept. What is kept may lie in memory that earlier tests have left, so tensors count too."""
    return grown.memory < MOST_GROWTH and grown.tensors <= MOST_TENSORS


@pytest.mark.parametrize('model', [grid, query])
def test_memory_stays_flat(model, tmp_path):
    grown = growth(model(), tmp_path, STEPS)
    assert is_flat(grown), f'{grown.memory / MEGABYTE:.1f} MiB and {grown.tensors} tensors more'


@pytest.mark.parametrize('model', [grid, query])
def test_the_measurement_sees_losses_that_are_kept_with_their_graphs(model, tmp_path):
    kept: list[Any] = []
    assert not is_flat(growth(model(), tmp_path, FEWER, kept.append))


def test_the_measurement_sees_small_tensors_that_are_kept(tmp_path):
    kept: list[Any] = []
    grown = growth(grid(), tmp_path, FEWER, lambda losses: kept.append(losses['loss_cls'].detach()))
    assert grown.tensors >= FEWER[1] - FEWER[0]


def test_the_measurement_sees_memory_that_no_tensor_of_python_holds(tmp_path):
    kept: list[Any] = []
    grown = growth(grid(), tmp_path, FEWER, lambda losses: kept.append(bytearray(MEGABYTE)))
    assert grown.memory > 3 * MOST_GROWTH

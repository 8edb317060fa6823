"""A detector, a data set and a metric that are small enough to train in a moment; they obey the rooms' contracts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omnidet.engine import Hook
from omnidet.registry import DATASETS, DENSE_HEADS, DETECTORS, HOOKS, METRICS
from omnidet.structures import ImageMeta, Result, Sample, Targets


@DENSE_HEADS.register
class TinyHead(nn.Module):
    def __init__(self, num_classes: int = 3, channels: int = 4) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.fc_cls = nn.Linear(channels, num_classes)


@DETECTORS.register
class TinyDetector(nn.Module):
    """Guesses an image's first label from its mean colours; batch norm and dropout make it depend on state and luck."""

    def __init__(self, bbox_head: Mapping[str, Any], data_preprocessor: Any = None, drop_rate: float = 0.1,
                 norm: bool = True, init_cfg: Any = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.bbox_head = DENSE_HEADS.build(bbox_head)
        self.drop_rate = drop_rate
        self.progress: tuple[int, int] = (-1, -1)

    def set_progress(self, epoch: int, iteration: int) -> None:
        self.progress = (epoch, iteration)

    def extract_feat(self, images: Tensor) -> tuple[Tensor, ...]:
        return (F.relu(self.norm(self.stem(images / 255))),)

    def logits(self, images: Tensor) -> Tensor:
        x = self.extract_feat(images)[0].mean((2, 3))
        return self.bbox_head.fc_cls(F.dropout(x, self.drop_rate, self.training))

    def loss(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        logits = self.logits(images)
        return {'loss_cls': F.cross_entropy(logits, targets.labels[:, 0]), 'loss_reg': 0.01 * logits.square().mean(),
                'size': logits.abs().mean()}

    def predict(self, images: Tensor, metas: list[ImageMeta], rescale: bool = True) -> list[Result]:
        scores, labels = self.logits(images).softmax(1).max(1)
        box = torch.tensor([[0.0, 0.0, 4.0, 4.0]], device=images.device)
        return [Result(box, s[None], n[None]) for s, n in zip(scores, labels, strict=True)]


@DATASETS.register
class TinyDataset:
    """`size` images of coloured noise, made of (epoch, index) alone."""

    def __init__(self, size: int = 12, classes: Sequence[str] = ('a', 'b', 'c'), pipeline: Sequence[Any] = (),
                 test_mode: bool = False) -> None:
        self.size = size
        self.classes = tuple(classes)
        self.metainfo = {'classes': self.classes, 'palette': [(0, 0, 0)] * len(self.classes)}
        self.pipeline = list(pipeline)

    def __len__(self) -> int:
        return self.size

    def set_pipeline(self, pipeline: Sequence[Any]) -> None:
        self.pipeline = list(pipeline)

    def __getitem__(self, key: tuple[int, ...]) -> Sample:
        epoch, index = key[0], key[1]
        label = index % len(self.classes)
        noise = torch.Generator().manual_seed(1000 * epoch + index)
        image = torch.randint(0, 120, (3, 8, 8), generator=noise, dtype=torch.uint8)
        image[label % 3] += 130
        target = {'boxes': torch.tensor([[0.0, 0.0, 4.0, 4.0]]), 'labels': torch.tensor([label])}
        return Sample(image, target, ImageMeta((8, 8), (8, 8), img_id=index))


@METRICS.register
class TinyMetric:
    """The mean score, how many images there were, and the next of `script`."""

    def __init__(self, script: Sequence[float] = (), classes: Sequence[str] = ()) -> None:
        self.script = list(script)
        self.records: list[Any] = []

    def update(self, results: list[Result], metas: list[ImageMeta]) -> None:
        self.records += [(m.img_id, float(r.scores[0]), int(r.labels[0])) for r, m in zip(results, metas, strict=True)]

    def compute(self, records: list[Any] | None = None) -> dict[str, float]:
        records = sorted(self.records if records is None else records)
        figures = {'tiny/mean': sum(r[1] for r in records) / len(records), 'tiny/count': float(len(records)),
                   'tiny/ids': float(len({r[0] for r in records}))}
        return {'tiny/score': self.script.pop(0), **figures} if self.script else figures

    def report(self) -> str:
        return 'a tiny report'

    def reset(self) -> None:
        self.records = []


def tiny_cfg(**changes: Any) -> dict[str, Any]:
    """A whole config of 3 epochs of 3 batches; `changes` replace top-level keys."""
    cfg: dict[str, Any] = dict(
        model=dict(type='TinyDetector', bbox_head=dict(type='TinyHead', num_classes=3),
                   data_preprocessor=dict(type='DetDataPreprocessor')),
        train_dataloader=dict(batch_size=4, num_workers=0, dataset=dict(type='TinyDataset')),
        val_dataloader=dict(batch_size=4, num_workers=0, dataset=dict(type='TinyDataset', size=7)),
        val_evaluator=dict(type='TinyMetric'),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=3),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.05, weight_decay=0.05)),
        param_scheduler=[dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4)],
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1),
                           checkpoint=dict(type='CheckpointHook', interval=1)))
    return {**cfg, **changes}


@HOOKS.register
class CallHook(Hook):
    """Calls a function of the run at one moment; see `at`."""

    def __init__(self, moment: str, do: Any) -> None:
        setattr(self, moment, lambda run, *args: do(run, *args))


def at(moment: str, do: Any) -> dict[str, Any]:
    """A custom hook's config that calls `do(run, ...)` at `moment`."""
    return dict(type='CallHook', moment=moment, do=do)

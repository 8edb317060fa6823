"""The state of a training, as the loop and the hooks share it, and how it is saved and taken up again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import omnidet
from omnidet.checkpoints import save_checkpoint
from omnidet.engine import distributed
from omnidet.engine.ema import AveragedModel
from omnidet.engine.evaluate import Evaluation
from omnidet.engine.hooks import Hook
from omnidet.engine.logging import TrainingLog
from omnidet.engine.loops import TrainLoop
from omnidet.engine.optim import Updater
from omnidet.engine.resume import as_ours, is_foreign
from omnidet.engine.schedule import Schedule
from omnidet.errors import CheckpointError
from omnidet.structures import Batch


@dataclass
class Run:
    """A training. Its attributes have the names of MMEngine's runner where that has them too.

    Attributes:
        model: what is trained.
        net: `model` behind a forward that gives losses, wrapped where there are several processes.
        bases: each parameter group's own settings, which the schedules start from.
        ema: the average of the weights, where a hook keeps one.
        epoch, iter: how many are finished.
        batch_index: the place of the current batch in its epoch.
        stream: where the batches come from at present; None makes the loop ask the loader anew.
        data_time: how long the loop waited for the current batch, in seconds.
        metrics: of the last validation.
        best: {metric: its best score and where those weights are}.
        stopped: why the training ends early.
        resumed: the checkpoint that it goes on from, while hooks take up theirs in `before_train`.
    """

    cfg: Mapping[str, Any]
    cfg_text: str
    work_dir: Path
    device: torch.device
    seed: int
    model: nn.Module
    net: nn.Module
    preprocessor: nn.Module
    train_dataloader: Any
    evaluation: Evaluation | None
    loop: TrainLoop
    iterations_per_epoch: int
    optimizer: torch.optim.Optimizer
    updater: Updater
    schedules: dict[str, Schedule]
    bases: dict[str, list[float]]
    hooks: list[Hook]
    logger: TrainingLog
    ema: AveragedModel | None = None
    epoch: int = 0
    iter: int = 0
    batch_index: int = 0
    stream: Iterator[Batch] | None = None
    data_time: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    best: dict[str, dict[str, Any]] = field(default_factory=dict)
    stopped: str = ''
    resumed: Mapping[str, Any] | None = None

    @property
    def max_epochs(self) -> int:
        return self.loop.epochs(self.iterations_per_epoch)

    @property
    def max_iters(self) -> int:
        return self.loop.iterations(self.iterations_per_epoch)

    @property
    def is_main(self) -> bool:
        return distributed.is_main()

    @property
    def rank(self) -> int:
        return distributed.rank()

    @property
    def world_size(self) -> int:
        return distributed.world_size()

    @property
    def deployed(self) -> nn.Module:
        """What is validated and used later: the average of the weights where there is one."""
        return self.model if self.ema is None else self.ema.module

    @property
    def dataset_meta(self) -> dict[str, Any]:
        return dict(self.train_dataloader.dataset.metainfo)

    def call(self, moment: str, *args: Any) -> None:
        """Let every hook do what it does at a moment."""
        for hook in self.hooks:
            getattr(hook, moment)(self, *args)

    def stop(self, why: str) -> None:
        """End the training after this epoch, or after this iteration where it counts iterations."""
        self.stopped = why

    def save(self, path: Path, iterations: int, optimizer: bool = True, best: dict[str, Any] | None = None) -> None:
        """Write a checkpoint from which the run can go on after `iterations`; all processes take part.

        Args:
            path: of the file.
            iterations: how many are finished.
            optimizer: keep what only a resumed training needs.
            best: the metric and score that these weights are the best of.
        """
        distributed.share_buffers(self.model)
        rng = distributed.gather(rng_state())
        if not self.is_main:
            return
        meta = {'epoch': iterations // self.iterations_per_epoch, 'iter': iterations, 'dataset_meta': self.dataset_meta,
                'cfg': self.cfg_text, 'omnidet_version': omnidet.__version__, 'seed': self.seed,
                'iterations_per_epoch': self.iterations_per_epoch, 'time': time.strftime('%Y%m%d_%H%M%S')}
        checkpoint: dict[str, Any] = {'meta': meta, 'state_dict': self.deployed.state_dict()}
        if best:
            meta['best'] = best
        if optimizer:
            checkpoint |= {'optimizer': self.optimizer.state_dict(), 'rng': rng, 'message_hub': {},
                           'param_schedulers': [{'name': k, 'last_step': iterations} for k in self.schedules]}
            if self.updater.scaler.is_enabled():
                checkpoint['loss_scaler'] = self.updater.scaler.state_dict()
            if self.ema is not None:
                checkpoint['ema_state_dict'] = self.ema.state_dict(self.model)
            if iterations % self.updater.every:
                checkpoint['gradients'] = {k: p.grad for k, p in self.model.named_parameters() if p.grad is not None}
        self.call('before_save', checkpoint)
        save_checkpoint(path, checkpoint)
        if optimizer:
            (path.parent / 'last_checkpoint').write_text(str(path.resolve()))

    def restore(self, checkpoint: Mapping[str, Any], source: str) -> None:
        """Take up weights, optimizer and progress of a checkpoint that `save`, MMEngine or mmcv wrote.

        Raises:
            CheckpointError: it lacks what a training needs, or belongs to another model.
        """
        meta = checkpoint['meta']
        if 'optimizer' not in checkpoint or not isinstance(meta.get('iter'), int):
            raise CheckpointError(f'{source}: it has weights, but no state of a training; begin with its weights by '
                                  '--load-from')
        if is_foreign(checkpoint):
            checkpoint = as_ours(checkpoint, self.model, self.optimizer, source)
            self.resumed = {**(self.resumed or {}), **checkpoint}
        raw = checkpoint['state_dict']
        if 'ema_state_dict' in checkpoint:    # then the trained weights lie there, and `state_dict` is their average
            raw = {k.removeprefix('module.'): v for k, v in checkpoint['ema_state_dict'].items() if k != 'steps'}
        try:
            self.model.load_state_dict(raw)
            self.optimizer.load_state_dict({k: checkpoint['optimizer'][k] for k in ('state', 'param_groups')})
        except (RuntimeError, ValueError, KeyError) as e:
            raise CheckpointError(f'{source}: it does not continue this run ({str(e).splitlines()[0]}); begin with its '
                                  'weights by --load-from') from e
        if self.updater.scaler.is_enabled() and 'loss_scaler' in checkpoint:
            self.updater.scaler.load_state_dict(checkpoint['loss_scaler'])
        for name, p in self.model.named_parameters():
            if name in checkpoint.get('gradients', {}):
                p.grad = checkpoint['gradients'][name].to(p.device)
        L = self.iterations_per_epoch
        self.iter = meta['iter']
        if meta.get('iterations_per_epoch', L) != L or ('iterations_per_epoch' not in meta and self.loop.by_epoch):
            # epochs have another length now: go on at the beginning of one
            self.iter = meta.get('epoch', self.iter // L) * L
        self.epoch, self.batch_index = divmod(self.iter, L)


def rng_state() -> dict[str, Any]:
    """The states of the random generators of Python, numpy and torch."""
    numpy = np.random.get_state(legacy=False)
    state = numpy['state']    # type: ignore[index]
    out = {'python': random.getstate(), 'torch': torch.get_rng_state(),
           'numpy': {**numpy, 'state': {'key': state['key'].tolist(), 'pos': int(state['pos'])}}}    # type: ignore[dict-item]
    if torch.cuda.is_available():
        out['cuda'] = torch.cuda.get_rng_state()
    return out


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Take up what `rng_state` gave."""
    version, values, gauss = state['python']
    random.setstate((version, tuple(values), gauss))
    numpy = dict(state['numpy'])
    numpy['state'] = {'key': np.asarray(numpy['state']['key'], dtype=np.uint32), 'pos': numpy['state']['pos']}
    np.random.set_state(numpy)
    torch.set_rng_state(state['torch'])
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'])


def set_seed(seed: int, deterministic: bool = False) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2 ** 32)
    torch.manual_seed(seed)
    if deterministic:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        torch.use_deterministic_algorithms(True, warn_only=True)

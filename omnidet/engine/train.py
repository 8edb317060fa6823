"""Training, top to bottom: `train` is the whole of it, `_epoch` goes over the data, `_step` makes one step."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.checkpoints import load_checkpoint, load_weights
from omnidet.config import check, dump
from omnidet.data import build_loader, build_preprocessor
from omnidet.engine import distributed
from omnidet.engine.allocator import keep_freed_memory
from omnidet.engine.distributed import pick_device
from omnidet.engine.evaluate import build_evaluation, evaluate
from omnidet.engine.hooks import build_hooks
from omnidet.engine.hooks.checks import check_num_classes
from omnidet.engine.interrupts import Interrupts
from omnidet.engine.logging import TrainingLog, duration, wants_tensorboard
from omnidet.engine.loops import build_train_loop
from omnidet.engine.optim import Updater, build_optimizer, build_wrapper
from omnidet.engine.run import Run, rng_state, set_rng_state, set_seed
from omnidet.engine.schedule import build_schedules
from omnidet.errors import CheckpointError, ConfigError, TrainingError
from omnidet.files import written_whole
from omnidet.models import build_model
from omnidet.structures import Batch


def train(cfg: Mapping[str, Any], work_dir: str | Path | None = None, resume: bool | str | Path = False,
          load_from: str | Path | None = None, device: str | None = None, trust: bool = False, seed: int | None = None,
          quiet: bool = False) -> dict[str, Any]:
    """Train the model of a config on its data.

    The work folder gets the resolved config, checkpoints, `log.jsonl` and `curves.png`.

    Args:
        cfg: the whole config; never changed.
        work_dir: the work folder; `work_dir` of the config, or `work_dirs/<its name>`, where it is None.
        resume: go on from this checkpoint; True takes the last one of the work folder, and begins anew without one.
        load_from: begin with the weights of this checkpoint.
        device: None is a GPU where there is one.
        trust: read checkpoints that may run code.
        seed: makes the run repeatable; `randomness.seed` of the config, or a random one, where it is None.
        quiet: print nothing.

    Returns:
        `metrics` of the last validation, `best` {metric: score and path}, `checkpoint` (the last one), `work_dir`,
        `seed`, `iterations`, `seconds`.

    Raises:
        OmniDetError: something in the config, the data or a checkpoint does not fit, or the training cannot go on.
        KeyboardInterrupt: the run was interrupted; a checkpoint is left.
    """
    check(cfg)
    place = pick_device(device)
    backend = ((cfg.get('env_cfg') or {}).get('dist_cfg') or {}).get('backend')
    with distributed.processes(place, backend):    # what the training holds must be gone when the processes part
        return _train(cfg, _work_dir(cfg, work_dir), resume or _configured_resume(cfg, load_from),
                      load_from or cfg.get('load_from'), place, trust, seed, quiet)


def _train(cfg: Mapping[str, Any], folder: Path, resume: bool | str | Path, load_from: str | Path | None,
           device: torch.device, trust: bool, seed: int | None, quiet: bool) -> dict[str, Any]:
    """`train`, among the processes that take part."""
    source = _resume_file(resume, folder)
    checkpoint = None if source is None else load_checkpoint(source, trust=trust)
    run = prepare(cfg, folder, device, seed, checkpoint, load_from, trust, quiet)
    started = time.perf_counter()
    try:
        if checkpoint is not None:
            run.restore(checkpoint, str(source))
            run.logger.info(f'going on from {source} at iteration {run.iter}')
        elif resume:
            run.logger.info(f'there is no checkpoint in {folder}; the training begins anew')
        run.call('before_train')
        if checkpoint is not None and run.rank < len(checkpoint.get('rng') or ()):
            set_rng_state(checkpoint['rng'][run.rank])
        run.resumed = checkpoint = None    # its memory is wanted
        _fit(run)
        run.call('after_train')
    finally:
        run.logger.close()
    seconds = time.perf_counter() - started
    run.logger.info(f'{run.iter} iterations in {duration(seconds)}; everything is in {folder}')
    last = folder / 'last_checkpoint'
    return {'metrics': run.metrics, 'best': run.best, 'checkpoint': last.read_text() if last.exists() else None,
            'work_dir': str(folder), 'seed': run.seed, 'iterations': run.iter, 'seconds': seconds}


def prepare(cfg: Mapping[str, Any], folder: Path, device: torch.device, seed: int | None = None,
            checkpoint: Mapping[str, Any] | None = None, load_from: str | Path | None = None, trust: bool = False,
            quiet: bool = False) -> Run:
    """Build all that a training needs: data, model, optimizer, schedules, hooks and the log.

    Args:
        cfg: the whole config.
        folder: the work folder.
        device: of this process.
        seed: see `train`.
        checkpoint: what the training will go on from; only its seed and its place in time are read.
        load_from: see `train`.
        trust: see `train`.
        quiet: see `train`.
    """
    loop, wrapper, hooks = build_train_loop(cfg), build_wrapper(cfg), build_hooks(cfg)
    if not cfg.get('train_dataloader'):
        raise ConfigError('train_dataloader is missing: there is nothing to train on')
    meta = {} if checkpoint is None else checkpoint['meta']
    randomness = cfg.get('randomness') or {}
    wanted = [seed, randomness.get('seed'), meta.get('seed'), random.SystemRandom().randrange(2 ** 31)]
    seed = distributed.broadcast(next(s for s in wanted if s is not None))
    set_seed(seed, randomness.get('deterministic', False))
    if device.type == 'cpu':
        keep_freed_memory()

    rank, world_size = distributed.rank(), distributed.world_size()
    loader = build_loader(cfg['train_dataloader'], train=True, seed=seed, rank=rank, world_size=world_size,
                          device_type=device.type)
    if len(loader) == 0:
        raise ConfigError(f'train_dataloader: {len(loader.dataset)} images do not fill one batch; take a smaller '
                          'batch_size')
    evaluation = build_evaluation(cfg, 'val', device)

    model = build_model(cfg, pretrained=checkpoint is None and load_from is None)
    report = None
    if load_from is not None and checkpoint is None:
        report = load_weights(model, load_checkpoint(load_from, trust=trust)['state_dict'], str(load_from))
    for split, part in (('train', loader), ('val', evaluation.loader if evaluation else None)):
        if part is not None:
            check_num_classes(model, part.dataset.classes, f'{split}_dataloader.dataset')
    model.to(device).to(memory_format=torch.channels_last)    # what cuDNN's and oneDNN's convolutions are fastest in
    if device.type == 'cuda':
        torch.backends.cudnn.benchmark = bool((cfg.get('env_cfg') or {}).get('cudnn_benchmark', False))
    set_seed(seed + rank)

    optimizer = build_optimizer(cfg, model)
    _scale_lr(cfg, optimizer, world_size)
    schedules = build_schedules(cfg, len(loader))
    bases = {name: [_base(g, name) for g in optimizer.param_groups] for name in schedules}

    text = dump(cfg)
    if rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        with written_whole(folder / 'config.py') as temporary:
            temporary.write_text(text)
    log = TrainingLog(folder, quiet, mute=rank > 0, tensorboard=wants_tensorboard(cfg), keep_until=meta.get('iter', 0))
    log.info(f'{len(loader.dataset)} images in {len(loader)} batches, {loop.iterations(len(loader))} iterations, '
             f'on {device}{f" x {world_size}" if world_size > 1 else ""}, seed {seed}, in {folder}')
    if report is not None:
        log.info(str(report))
    net: nn.Module = _Losses(model)
    if world_size > 1:
        net = nn.parallel.DistributedDataParallel(
            net, device_ids=[device] if device.type == 'cuda' else None, broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False))
    return Run(cfg=cfg, cfg_text=text, work_dir=folder, device=device, seed=seed, model=model, net=net,
               preprocessor=build_preprocessor(cfg['model'].get('data_preprocessor')).to(device),
               train_dataloader=loader, evaluation=evaluation, loop=loop, iterations_per_epoch=len(loader),
               optimizer=optimizer, updater=Updater(wrapper, optimizer, device), schedules=schedules, bases=bases,
               hooks=hooks, logger=log, resumed=checkpoint)


def _fit(run: Run) -> None:
    """Epoch after epoch, with validation between; an interrupt leaves a checkpoint."""
    run.model.train()
    run.logger.start(run)
    with Interrupts(deferred=run.world_size > 1) as interrupts:
        try:
            if run.iter >= run.max_iters:
                validate(run)    # going on where the last validation was interrupted
            while run.iter < run.max_iters and not run.stopped:
                run.call('before_epoch')
                _epoch(run, interrupts)
                if run.iter % run.iterations_per_epoch:
                    break    # a run that counts iterations may end within an epoch
                run.call('after_epoch')
                run.epoch += 1
                if run.loop.by_epoch and run.loop.validates(run.epoch):
                    validate(run)
        except (KeyboardInterrupt, Exception) as e:
            _leave_checkpoint(run, e)
            raise
    if run.stopped:
        run.logger.info(f'stopped: {run.stopped}')


def _leave_checkpoint(run: Run, why: BaseException) -> None:
    """Save what an interrupt, or an error outside the training itself, would lose."""
    asked = isinstance(why, KeyboardInterrupt)
    alone = run.world_size == 1    # an error on one of several processes finds the others elsewhere
    if run.iter == 0 or isinstance(why, TrainingError) or not (asked or alone):
        return
    path = run.work_dir / 'interrupted.pth'
    with contextlib.nullcontext() if asked else contextlib.suppress(Exception):    # `why` is what the user must see
        run.save(path, run.iter)
        run.logger.info(f'interrupted after iteration {run.iter}; {path} is saved, go on with --resume')


def _epoch(run: Run, interrupts: Interrupts) -> None:
    """One pass over the data, or what is left of it."""
    run.model.train()
    run.train_dataloader.set_epoch(run.epoch)
    for batch in _batches(run):
        run.call('before_iter', batch)
        with interrupts.held():
            losses = _step(run, batch)
            run.call('after_iter', batch, losses)
            run.iter += 1
        if not run.loop.by_epoch and run.loop.validates(run.iter):
            validate(run)
        if run.iter >= run.max_iters or (run.stopped and not run.loop.by_epoch):
            return
        if interrupts.deferred and run.iter % 10 == 0 and distributed.any_true(interrupts.asked, run.device):
            raise KeyboardInterrupt


def _batches(run: Run) -> Iterator[Batch]:
    """The batches of this epoch from `run.batch_index` on, on the device and normalised; each wait is measured."""
    loader = run.train_dataloader
    if run.stream is None:
        loader.set_start(run.iter if loader.endless else run.batch_index)
        state = rng_state()
        run.stream = iter(loader)
        set_rng_state(state)    # starting the workers must not change what the model draws
    while run.batch_index < run.iterations_per_epoch:
        asked = time.perf_counter()
        batch = next(run.stream, None)
        run.data_time = time.perf_counter() - asked
        if batch is None:
            raise TrainingError(f'epoch {run.epoch + 1}: the loader ended after {run.batch_index} of '
                                f'{run.iterations_per_epoch} batches')
        batch = run.preprocessor(batch.to(run.device, non_blocking=True))
        batch.images = batch.images.contiguous(memory_format=torch.channels_last)
        yield batch
        run.batch_index += 1
    run.batch_index = 0
    if not loader.endless:
        run.stream = None


def _step(run: Run, batch: Batch) -> dict[str, Tensor]:
    """Losses of one batch, their gradients, and a step of the optimizer where enough have come together."""
    t, updater = run.iter, run.updater
    for name, schedule in run.schedules.items():
        for group, base in zip(run.optimizer.param_groups, run.bases[name], strict=True):
            _set(group, name, schedule.at(base, t))
    if hasattr(run.model, 'set_progress'):
        run.model.set_progress(run.epoch, t)    # type: ignore[operator]
    steps = updater.steps_at(t, run.max_iters)
    waits = not steps and isinstance(run.net, nn.parallel.DistributedDataParallel)
    with run.net.no_sync() if waits else contextlib.nullcontext():    # type: ignore[operator]
        with updater.autocast():
            losses = run.net(batch)
            total = torch.stack([v for k, v in losses.items() if 'loss' in k]).sum()
        updater.backward(total, t, run.max_iters)
    losses = {'loss': total.detach(), **{k: v.detach() for k, v in losses.items()}}
    if steps and (norm := updater.step()) is not None:
        losses['grad_norm'] = norm
    return losses


def validate(run: Run) -> None:
    """Measure the model, or the average of its weights, and tell the hooks."""
    if run.evaluation is None:
        return
    run.logger.pause()
    run.call('before_val')
    distributed.share_buffers(run.deployed)
    state = rng_state()
    run.metrics = evaluate(run.deployed, run.evaluation.loader, run.evaluation.metrics, run.preprocessor, run.device,
                           progress=not run.logger.console.quiet, fp16=run.evaluation.fp16)
    set_rng_state(state)    # a resumed run, which may not have validated, draws the same
    if run.is_main:
        for metric in run.evaluation.metrics:
            run.logger.info(metric.report())
    run.call('after_val', run.metrics)
    run.logger.resume()


class _Losses(nn.Module):
    """A model whose call gives its losses: what DistributedDataParallel wraps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.model.loss(batch.images, batch.targets)    # type: ignore[operator]


def _base(group: Mapping[str, Any], name: str) -> float:
    """A group's own setting, which schedules start from; Adam's momentum is the first of its betas."""
    if name == 'momentum' and 'betas' in group:
        return group['betas'][0]
    if name not in group:
        raise ConfigError(f'param_scheduler: the optimizer has no setting {name!r}')
    return group[name]


def _set(group: dict[str, Any], name: str, value: float) -> None:
    if name == 'momentum' and 'betas' in group:
        group['betas'] = (value, *group['betas'][1:])
    else:
        group[name] = value


def _scale_lr(cfg: Mapping[str, Any], optimizer: torch.optim.Optimizer, world_size: int) -> None:
    """`auto_scale_lr`: a rate that is meant for one batch size, scaled to the actual one."""
    scaling = cfg.get('auto_scale_lr') or {}
    if not scaling.get('enable', False):
        return
    if not scaling.get('base_batch_size'):
        raise ConfigError('auto_scale_lr: base_batch_size is missing, the one that the learning rate is meant for')
    ratio = cfg['train_dataloader'].get('batch_size', 1) * world_size / scaling['base_batch_size']
    for group in optimizer.param_groups:
        group['lr'] *= ratio


def _work_dir(cfg: Mapping[str, Any], work_dir: str | Path | None) -> Path:
    name = Path(getattr(cfg, 'filename', '') or 'run').stem
    return Path(work_dir or cfg.get('work_dir') or Path('work_dirs') / name)


def _configured_resume(cfg: Mapping[str, Any], load_from: str | Path | None) -> bool | str | Path:
    """What the config says about going on: with `resume=True`, from what `load_from` names, if anything."""
    resume = cfg.get('resume', False)
    return resume if resume is not True else load_from or cfg.get('load_from') or True


def _resume_file(resume: bool | str | Path, folder: Path) -> Path | None:
    """The checkpoint to go on from."""
    if resume is False or resume is None:
        return None
    if resume is not True:
        return Path(resume)
    pointer = folder / 'last_checkpoint'
    if not pointer.exists():
        latest = folder / 'latest.pth'    # as MMDetection 2.x calls it
        return latest if latest.exists() else None
    path = Path(pointer.read_text().strip())
    for place in (path, folder / path.name):    # the folder may have been moved
        if place.exists():
            return place
    raise CheckpointError(f'{pointer} names {path}, which is not there; name another with --resume FILE')

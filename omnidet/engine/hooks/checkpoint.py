"""Keeping checkpoints: the latest few, the last, and the best."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidet.checkpoints import load_checkpoint
from omnidet.engine.hooks.base import Hook
from omnidet.engine.resume import best_of, is_foreign
from omnidet.errors import CheckpointError, ConfigError, did_you_mean
from omnidet.registry import HOOKS

if TYPE_CHECKING:
    from omnidet.engine.run import Run

LESS = ('loss',)
"""A metric whose name has one of these is better when smaller; every other when greater."""


@HOOKS.register
class CheckpointHook(Hook):
    """Save the training every `interval` epochs or iterations, and the weights that scored best.

    Args:
        interval: how often; -1 saves at the end alone.
        by_epoch: `interval` counts epochs.
        save_optimizer: keep the optimizer's state, without which a run cannot go on.
        save_param_scheduler: accepted; schedules have no state.
        out_dir: where to save, in place of the work folder; a folder of the work folder's name is made there.
        max_keep_ckpts: keep the latest so many; -1 keeps all.
        save_last: save at the end of the training in any case.
        save_best: the name of a metric (or several) to keep the best weights of; 'auto' takes the first there is.
        rule: 'greater' or 'less' is better, one or as many as metrics; told by the metric's name where absent.
        greater_keys: parts of metrics' names that are better when greater.
        less_keys: parts of metrics' names that are better when smaller.
        file_client_args: accepted; checkpoints are written to disk.
        filename_tmpl: a name with a place for the number; 'epoch_{}.pth' or 'iter_{}.pth' where absent.
        backend_args: accepted; checkpoints are written to disk.
        published_keys: accepted; nothing is published.
        save_begin: save from this epoch or iteration on.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int = -1, by_epoch: bool = True, save_optimizer: bool = True,
                 save_param_scheduler: bool = True, out_dir: str | None = None, max_keep_ckpts: int = -1,
                 save_last: bool = True, save_best: str | Sequence[str] | None = None,
                 rule: str | Sequence[str] | None = None, greater_keys: Sequence[str] | None = None,
                 less_keys: Sequence[str] | None = None, file_client_args: Mapping[str, Any] | None = None,
                 filename_tmpl: str | None = None, backend_args: Mapping[str, Any] | None = None,
                 published_keys: str | Sequence[str] | None = None, save_begin: int = 0) -> None:
        self.interval = interval
        self.by_epoch = by_epoch
        self.save_optimizer = save_optimizer
        self.out_dir = out_dir
        self.max_keep_ckpts = max_keep_ckpts
        self.save_last = save_last
        self.save_best = [] if save_best is None else [save_best] if isinstance(save_best, str) else list(save_best)
        rules = [] if rule is None else [rule] if isinstance(rule, str) else list(rule)
        if any(r not in ('greater', 'less') for r in rules):
            raise ConfigError(f"rule: {rule!r} is neither 'greater' nor 'less'")
        self.rules = rules * len(self.save_best) if len(rules) == 1 else rules
        self.greater_keys, self.less_keys = tuple(greater_keys or ()), tuple(less_keys or LESS)
        self.template = filename_tmpl or ('epoch_{}.pth' if by_epoch else 'iter_{}.pth')
        self.save_begin = save_begin
        self.best: dict[str, tuple[float, Path]] = {}
        self.kept: list[Path] = []

    def before_train(self, run: Run) -> None:
        folder = run.work_dir if self.out_dir is None else Path(self.out_dir) / run.work_dir.name
        self.folder = folder
        if run.iter:    # a run that goes on also goes on counting what it kept
            self.kept = self._numbered(run.epoch if self.by_epoch else run.iter)
            known = best_of(run.resumed, self.save_best) if run.resumed is not None and is_foreign(run.resumed) else {}
            self.best = {**{k: (score, folder / name) for k, (score, name) in known.items()}, **self._best_on_disk()}

    def after_iter(self, run: Run, batch: Any, losses: dict[str, Any]) -> None:
        if not self.by_epoch and self._due(run.iter + 1, run.max_iters):
            self._save(run, run.iter + 1, run.iter + 1)

    def after_epoch(self, run: Run) -> None:
        if self.by_epoch and self._due(run.epoch + 1, run.max_epochs):
            self._save(run, run.epoch + 1, run.iter)

    def after_val(self, run: Run, metrics: dict[str, float]) -> None:
        wanted = [next(iter(metrics), 'auto') if k == 'auto' else k for k in self.save_best]
        for i, key in enumerate(wanted):
            if key not in metrics:
                if not metrics:
                    return
                raise ConfigError(f'save_best: there is no metric {key!r}{did_you_mean(key, metrics)}; '
                                  f'there are {", ".join(metrics)}')
            score, best = metrics[key], self.best.get(key)
            greater = self.rules[i] == 'greater' if self.rules else self._greater(key)
            if best is not None and not (score > best[0] if greater else score < best[0]):
                continue
            progress = f'epoch_{run.epoch}' if self.by_epoch else f'iter_{run.iter}'
            path = self.folder / f'best_{key.replace("/", "_")}_{progress}.pth'
            run.save(path, run.iter, optimizer=False, best={'key': key, 'score': score})
            if best is not None and best[1] != path and run.is_main:
                best[1].unlink(missing_ok=True)
            self.best[key] = (score, path)
            run.best[key] = {'score': score, 'path': str(path)}
            run.logger.info(f'best {key} so far: {score:.4f}, kept in {path.name}')

    def _due(self, done: int, last: int) -> bool:
        if done == last and self.save_last:
            return True
        return self.interval > 0 and done > self.save_begin and (done - self.save_begin) % self.interval == 0

    def _save(self, run: Run, number: int, iterations: int) -> None:
        path = self.folder / self.template.format(number)
        run.save(path, iterations, optimizer=self.save_optimizer)
        self.kept = [p for p in self.kept if p != path] + [path]
        while 0 < self.max_keep_ckpts < len(self.kept):
            old = self.kept.pop(0)
            if run.is_main:
                old.unlink(missing_ok=True)

    def _greater(self, key: str) -> bool:
        return any(k in key for k in self.greater_keys) or not any(k.lower() in key.lower() for k in self.less_keys)

    def _numbered(self, latest: int) -> list[Path]:
        """The files of this run on disk, up to number `latest`, in order."""
        pattern = re.compile(re.escape(self.template).replace(r'\{\}', r'(\d+)'))
        found = [(int(m[1]), p) for p in self.folder.glob('*.pth') if (m := pattern.fullmatch(p.name))]
        return [p for number, p in sorted(found) if number <= latest]

    def _best_on_disk(self) -> dict[str, tuple[float, Path]]:
        found = {}
        for path in self.folder.glob('best_*.pth'):
            try:
                best = load_checkpoint(path)['meta'].get('best')
            except CheckpointError:
                continue
            if isinstance(best, dict):
                found[best['key']] = (best['score'], path)
        return found

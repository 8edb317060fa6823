"""What can be read, checked and built of many configs, found by a few processes of which any may die or hang."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from omnidet.config.check import lookup, problems
from omnidet.config.loader import load_config
from omnidet.errors import ConfigError, OmniDetError

LIMIT = 120.0
"""Seconds that one config may take; the largest of MMDetection's zoo takes about five."""


@dataclass(frozen=True)
class Finding:
    """What became of one config.

    Attributes:
        name: its path below the surveyed folder.
        parses: it was read, with all that it inherits.
        builds: its model was made on the meta device; None where it has no model.
        error: why it was not read or built.
        problems: what `omnidet config check` says of it.
        missing: names of parts that are not known.
        changes: how many of its entries have another form in MMDetection 3.x.
    """

    name: str
    parses: bool = False
    builds: bool | None = False
    error: str = ''
    problems: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    changes: int = 0


def configs_below(folder: Path) -> list[Path]:
    """The Python files below a folder, sorted; without hidden folders and those called `_base_`, which hold parts.

    Raises:
        ConfigError: it is no folder, or there is none in it.
    """
    if not folder.is_dir():
        raise ConfigError(f'{folder} is no folder of configs')
    found: list[Path] = []
    for root, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(('.', '__')) and f != '_base_']
        found += [Path(root, f) for f in files if f.endswith('.py') and not f.startswith('__')]
    if not found:
        raise ConfigError(f'{folder}: no config in it; they are .py files, outside of folders called _base_')
    return sorted(found)


def examine(file: Path, name: str, trust: bool = False) -> Finding:
    """Read, check and build one config; whatever it ends in is told, not raised."""
    try:
        cfg = load_config(file, trust=trust)
    except Exception as e:
        return Finding(name, error=_reason(e))
    missing: dict[str, None] = {}

    def noting(kind: str, path: tuple[str | int, ...]) -> Callable[..., Any] | None:
        cls = lookup(kind, path)
        if cls is None:
            missing[kind.rpartition('.')[2]] = None
        return cls
    error, builds, found = '', None, []
    try:
        found = [str(p) for p in problems(cfg, noting)]
        if cfg.get('model') is not None:
            builds = False
            _build(cfg)
            builds = True
    except Exception as e:
        error = _reason(e)
    return Finding(name, True, builds, error, tuple(found), tuple(missing), len(cfg.changes))


def _build(cfg: Any) -> None:
    import torch

    from omnidet.models import build_model
    with torch.device('meta'):
        build_model(cfg)


def _reason(e: Exception) -> str:
    text = str(e) if isinstance(e, OmniDetError) else f'{type(e).__name__}: {e}'
    return ' '.join(text.split())[:400]


def missing_parts(findings: Iterable[Finding]) -> list[tuple[str, int, str]]:
    """(name of a part, number of configs that want it, one of them), the most wanted first."""
    findings = list(findings)
    first = {name: f.name for f in reversed(findings) for name in f.missing}
    counts = Counter(name for f in findings for name in f.missing)
    return [(name, counts[name], first[name]) for name in sorted(counts, key=lambda n: (-counts[n], n))]


def survey(files: Sequence[Path], folder: Path, trust: bool = False, jobs: int = 2,
           prepare: Callable[[], object] | None = None, limit: float = LIMIT) -> Iterator[Finding]:
    """Examine configs in processes of their own.

    Args:
        files: the configs.
        folder: what their names are relative to.
        trust: see `load_config`.
        jobs: how many processes.
        prepare: is called in each process first; it must be picklable.
        limit: seconds for one config; a process that takes longer is ended.

    Yields:
        One finding for each file, as they come.

    Raises:
        ConfigError: the processes cannot start.
    """
    waiting = list(reversed(files))
    workers: list[_Worker] = []
    try:
        while waiting or any(w.name for w in workers):
            while len(workers) < max(jobs, 1) and sum(not w.name for w in workers) < len(waiting):
                workers.append(_Worker(trust, prepare))
            timeout = min(w.deadline for w in workers) - time.monotonic()
            ready = wait([w.pipe for w in workers], max(timeout, 0) if math.isfinite(timeout) else None)
            for worker in [w for w in workers if w.pipe in ready or time.monotonic() > w.deadline]:
                finding = worker.finding(worker.pipe in ready, limit)
                if finding is not None:
                    yield finding
                if worker.lost:
                    workers.remove(worker)
                    worker.end()
                elif waiting:
                    worker.give(file := waiting.pop(), file.relative_to(folder).as_posix(), limit)
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """One process, and what it is at.

    Attributes:
        name: of the config that it examines; an empty string while it starts or waits.
        deadline: when that has to be done, on the clock of `time.monotonic`.
        lost: it has ended, or must be.
    """

    def __init__(self, trust: bool, prepare: Callable[[], object] | None) -> None:
        context = multiprocessing.get_context('spawn')    # a fork of a process with torch's threads may hang
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, trust, prepare), daemon=True)
        self.process.start()
        theirs.close()
        self.name, self.deadline, self.lost = '', math.inf, False

    def give(self, file: Path, name: str, limit: float) -> None:
        self.name, self.deadline = name, time.monotonic() + limit
        self.pipe.send((file, name))

    def finding(self, ready: bool, limit: float) -> Finding | None:
        """What became of its config, or None where the process has just started.

        Raises:
            ConfigError: it could not start.
        """
        name, self.name, self.deadline = self.name, '', math.inf
        reason = f'it takes more than {limit:g} s'
        if ready:
            try:
                return self.pipe.recv()
            except (EOFError, OSError):
                self.process.join(5)
                reason = f'it ends the process that reads it (status {self.process.exitcode})'
        self.lost = True
        if not name:
            raise ConfigError('the processes of the survey end before their first config; '
                              '`omnidet config check` on one config, with the same arguments, may say why')
        return Finding(name, error=reason)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _work(pipe: Connection, trust: bool, prepare: Callable[[], object] | None) -> None:
    """The life of a process: a config in, a finding out, until it is ended. What configs print is not shown."""
    import torch
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    sys.stdout = sys.stderr = open(os.devnull, 'w')    # noqa: PTH123, SIM115
    if prepare is not None:
        prepare()
    pipe.send(None)
    while True:
        try:
            file, name = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        pipe.send(examine(file, name, trust))

"""What a run tells: lines of text, on a terminal a bar below them, a record per line in `log.jsonl`, and curves."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from omnidet.engine.curves import draw_curves

if TYPE_CHECKING:
    from omnidet.engine.run import Run


class TrainingLog:
    """The voice of a training; a process that is not the main one has a mute one.

    Args:
        work_dir: where `log.jsonl` and `curves.png` go.
        quiet: print nothing; the files are written nevertheless.
        mute: neither print nor write.
        tensorboard: write TensorBoard's files too.
        keep_until: the iteration up to which the records of an earlier part of this run are kept; 0 begins anew.
    """

    def __init__(self, work_dir: Path, quiet: bool = False, mute: bool = False, tensorboard: bool = False,
                 keep_until: int = 0) -> None:
        self.path = work_dir / 'log.jsonl'
        self.mute = mute
        self.console = Console(quiet=quiet or mute, soft_wrap=True, highlight=False)
        self._bar: Progress | None = None
        self._last = self._paused = time.perf_counter()
        self._data_time, self._count = 0.0, 0
        self._board: Any = None
        if mute:
            return
        records = [r for r in read_log(self.path) if r.get('iter', 0) <= keep_until] if keep_until else []
        self.path.write_text(''.join(json.dumps(r) + '\n' for r in records))
        if tensorboard:
            self._board = _tensorboard(work_dir)

    def start(self, run: Run) -> None:
        """Begin to measure time, and show the bar on a terminal."""
        self._last = time.perf_counter()
        if self.console.is_terminal and not self.console.quiet:
            self._bar = Progress(TextColumn('{task.description}'), BarColumn(bar_width=24), MofNCompleteColumn(),
                                 TimeRemainingColumn(), console=self.console, transient=True)
            self._bar.start()
            self._bar.add_task(place(run), total=run.max_iters, completed=run.iter)

    def info(self, text: str) -> None:
        """A line of text."""
        self.console.print(text, markup=False)

    def warning(self, text: str) -> None:
        self.console.print(f'warning: {text}', markup=False)

    error = info

    def advance(self, run: Run) -> None:
        """One more iteration is done."""
        self._data_time += run.data_time
        self._count += 1
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=run.iter + 1, description=place(run))

    def pause(self) -> None:
        """Leave out of the rate what happens until `resume`, and make room for another bar."""
        self._paused = time.perf_counter()
        if self._bar is not None:
            self._bar.stop()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._last += time.perf_counter() - self._paused
        if self._bar is not None:
            self._bar.start()

    def train(self, run: Run, losses: Mapping[str, float]) -> None:
        """Tell the means of the losses since the last time, with rate, remaining time, data wait and memory."""
        self.advance(run)
        now = time.perf_counter()
        seconds, count = now - self._last, self._count
        step = seconds / count
        left = step * (run.max_iters - run.iter - 1)
        record = {'mode': 'train', 'epoch': run.epoch + 1, 'iter': run.iter + 1,
                  'lr': run.optimizer.param_groups[0]['lr'], **losses, 'time': step,
                  'data_time': self._data_time / count, 'memory': memory_mib(run.device), 'eta': left}
        wait = self._data_time / max(seconds, 1e-9)
        self._last, self._data_time, self._count = now, 0.0, 0
        self.record(record)
        parts = ' '.join(f'{k} {v:.4g}' for k, v in losses.items())
        memory = '' if record['memory'] is None else f'  mem {record["memory"]:.0f} MiB'
        self.info(f'{place(run)}  eta {duration(left)}  lr {record["lr"]:.3g}  {parts}  {step:.3f} s/it  '
                  f'data {wait:.0%}{memory}')

    def validation(self, run: Run, metrics: Mapping[str, float]) -> None:
        """Tell the figures of a validation."""
        self.record({'mode': 'val', 'epoch': run.epoch, 'iter': run.iter, **metrics})
        if metrics:
            done = f'epoch {run.epoch}' if run.loop.by_epoch else f'iteration {run.iter}'
            short = {k: v for k, v in metrics.items() if not k.endswith('_precision')}    # those are in the table
            self.info(f'{done} validated: ' + '  '.join(f'{k} {v:.4f}' for k, v in short.items()))

    def record(self, record: Mapping[str, Any]) -> None:
        """Append to `log.jsonl`, and to TensorBoard's files."""
        if self.mute:
            return
        with self.path.open('a') as f:
            f.write(json.dumps(record) + '\n')
        if self._board is not None:
            for key, value in record.items():
                if isinstance(value, (int, float)) and key not in ('epoch', 'iter'):
                    self._board.add_scalar(f'{record["mode"]}/{key}', value, record['iter'])

    def close(self) -> None:
        """End the bar and draw the curves."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._board is not None:
            self._board.close()
        if not self.mute:
            records = read_log(self.path)
            if records:
                draw_curves(records, self.path.with_name('curves.png'))


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a `log.jsonl`; a last line that was cut off is left out."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            records.append(json.loads(line))
    return records


def place(run: Run) -> str:
    """Where the run is, for a reader: epochs and iterations from 1."""
    if not run.loop.by_epoch:
        return f'iteration {run.iter + 1}/{run.max_iters}'
    L = run.iterations_per_epoch
    return f'epoch {run.epoch + 1}/{run.max_epochs} {run.iter % L + 1:>{len(str(L))}}/{L}'


def duration(seconds: float) -> str:
    """`1:02:03`."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f'{hours}:{m:02}:{s:02}'


def memory_mib(device: torch.device) -> float | None:
    """The most memory in use so far: of the GPU, or of this process; None where the system does not say."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) / 2 ** 20
    try:
        import resource
    except ImportError:    # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2 ** (20 if sys.platform == 'darwin' else 10)


@contextlib.contextmanager
def progress_bar(what: str, total: int, shown: bool) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, nothing elsewhere; yields what to call at each step."""
    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield lambda: None
        return
    columns = TextColumn('{task.description}'), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def wants_tensorboard(cfg: Mapping[str, Any]) -> bool:
    """Whether the config's visualizer has TensorBoard among its backends."""
    backends: Sequence[Any] = (cfg.get('visualizer') or {}).get('vis_backends') or cfg.get('vis_backends') or ()
    return any('Tensorboard' in str(b.get('type')) for b in backends if isinstance(b, Mapping))


def _tensorboard(work_dir: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(work_dir / 'tensorboard'))

"""Logs of trainings, ours and MMDetection's: what they recorded, as curves and as times of iterations."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from omnidet.errors import ConfigError, OmniDetError, did_you_mean
from omnidet.files import written_whole

PLACE = ('mode', 'epoch', 'iter', 'step', 'eta')
"""Entries of a record that say where it is, and not what was measured."""

KNOWN = 'log.jsonl of OmniDet, *.log.json of MMDetection 2.x, vis_data/*.json of MMDetection 3.x'
SEABORN = ('darkgrid', 'whitegrid', 'dark', 'white', 'ticks')
"""The names that MMDetection's `--style` takes; matplotlib knows them with a prefix."""


class Curve(NamedTuple):
    """One thing that was measured again and again."""

    iterations: list[int]
    epochs: list[int | None]    # None where the log does not tell
    values: list[float]
    training: bool


@dataclass
class Log:
    """The records of a training, each a dict of numbers.

    Attributes:
        path: the file.
        train: with `iter` counted from the training's beginning, and `epoch` where the log tells it.
        val: of validations, likewise.
    """

    path: Path
    train: list[dict[str, Any]] = field(default_factory=list)
    val: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What a legend calls it: its work folder."""
        folders = [p for p in self.path.resolve().parents if p.name != 'vis_data']
        stamped = folders[0].name.replace('_', '').isdigit()    # 3.x: work_dirs/name/20230101_120000/vis_data/x.json
        return folders[1].name if stamped and self.path.parent.name == 'vis_data' else folders[0].name

    def measured(self) -> list[str]:
        """What was measured, in the order in which it comes up."""
        return list(dict.fromkeys(k for r in (*self.train, *self.val) for k, v in r.items()
                                  if k not in PLACE and isinstance(v, (int, float))))

    def find(self, key: str) -> str | None:
        """The log's own name of `key`: MMDetection 2.x's `bbox_mAP` is `coco/bbox_mAP` elsewhere, and back."""
        names = self.measured()
        return next((name for name in names if name == key), None) or next(
            (name for name in names if name.rpartition('/')[2] == key.rpartition('/')[2]), None)

    def curve(self, key: str) -> Curve:
        """The values of `key`, in training where it is recorded there, else in validation."""
        name = self.find(key) or key
        for records, training in ((self.train, True), (self.val, False)):
            told = [r for r in records if isinstance(r.get(name), (int, float))]
            if told:
                return Curve([r['iter'] for r in told], [r.get('epoch') for r in told], [r[name] for r in told],
                             training)
        return Curve([], [], [], True)


def read_training_log(path: str | Path) -> Log:
    """Read a log, or the newest one in a work folder.

    Raises:
        OmniDetError: there is no such file, or it is no log.
    """
    path = find_log(Path(path))
    records = []
    for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue    # a last line that was cut off
        if isinstance(record, dict):
            records.append(record)
    log = Log(path)
    for record in records:
        mode = record.get('mode') or _mode(record)
        if mode in ('train', 'val'):
            (log.train if mode == 'train' else log.val).append(record)
    if not log.train and not log.val:
        raise OmniDetError(f'{path}: this is no log of a training; known are {KNOWN}')
    _count_iterations(log)
    return log


def find_log(path: Path) -> Path:
    """The file, or the newest log in a folder.

    Raises:
        OmniDetError: there is none.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise OmniDetError(f'{path} does not exist; a log is wanted, or the work folder that it is in ({KNOWN})')
    for pattern in ('log.jsonl', '*.log.json', 'vis_data/scalars.json', '*/vis_data/scalars.json', '*/vis_data/*.json'):
        found = sorted(path.glob(pattern), key=lambda p: p.stat().st_mtime)
        if found:
            return found[-1]
    raise OmniDetError(f'{path} has no log of a training; known are {KNOWN}')


def _mode(record: dict[str, Any]) -> str:
    """Of a record of MMDetection 3.x, which does not say: training has a learning rate, or losses."""
    if 'lr' in record or any('loss' in k for k in record):
        return 'train'
    return 'val' if any(k not in (*PLACE, 'time', 'data_time') for k, v in record.items()
                        if isinstance(v, (int, float))) else ''


def _count_iterations(log: Log) -> None:
    """Count iterations from the beginning of the training, where a log counts them from that of each epoch."""
    steps = [(r.get('epoch'), r.get('iter', r.get('step', 0))) for r in log.train]
    restarts = any(a[0] != b[0] and b[1] <= a[1] for a, b in pairwise(steps))
    length = max((i for _, i in steps), default=0) if restarts else 0
    last_epoch = max((e for e, _ in steps if e is not None), default=0)
    for record, (epoch, iteration) in zip(log.train, steps, strict=True):
        record['iter'] = iteration + length * ((epoch or 1) - 1)
    at_end = {r['epoch']: r['iter'] for r in log.train if 'epoch' in r}
    for record in log.val:
        if 'epoch' not in record and 'step' in record and record['step'] <= last_epoch:
            record['epoch'] = record['step']    # 3.x counts validations in epochs, where it trains in epochs
        if 'epoch' in record and (length or 'iter' not in record):
            record['iter'] = at_end.get(record['epoch'], record.get('iter', 0))
        record.setdefault('iter', record.get('step', 0))


def default_keys(logs: Sequence[Log]) -> list[str]:
    """The loss, and the first score that a log has."""
    known = list(dict.fromkeys(k for log in logs for k in log.measured()))
    scores = [k for k in known if k.endswith(('mAP', 'PQ', 'AP', 'mIoU'))]
    return [k for k in known if k == 'loss'] + scores[:1] or known[:1]


def draw_logs(path: Path, logs: Sequence[Log], keys: Sequence[str] = (), legend: Sequence[str] = (), title: str = '',
              style: str | None = None, start_epoch: int = 1) -> list[str]:
    """Draw curves of several logs into one picture: what is of training on the left, of validation on the right.

    Args:
        path: of the picture; its suffix says which kind (png, pdf, svg, jpg).
        logs: the trainings.
        keys: what to draw; `default_keys` where empty.
        legend: a name for each curve, log by log and key by key; the logs' and keys' own where empty.
        title: above the picture.
        style: one of matplotlib's styles, or of seaborn's.
        start_epoch: leave out what is before.

    Returns:
        the keys that were drawn.

    Raises:
        ConfigError: a log has no such key, there is another number of names than of curves, or no such style.
    """
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chosen = list(keys) or default_keys(logs)
    _check(logs, chosen, bool(keys))
    curves = [(log, key) for log in logs for key in chosen if log.find(key)]
    if legend and len(legend) != len(curves):
        raise ConfigError(f'--legend has {len(legend)} names for {len(curves)} curves: '
                          + ', '.join(f'{log.name} {key}' for log, key in curves))
    names = list(legend) or [key if len(logs) == 1 else log.name if len(chosen) == 1 else f'{log.name}: {key}'
                             for log, key in curves]
    with matplotlib.style.context(_style(style)):
        sides = sorted({log.curve(key).training for log, key in curves}, reverse=True)
        figure = Figure(figsize=(6.8 * len(sides), 4.4), layout='constrained', dpi=110)
        FigureCanvasAgg(figure)
        for axes, training in zip(figure.subplots(1, len(sides), squeeze=False)[0], sides, strict=True):
            _draw_side(axes, training, curves, names, start_epoch)
        if title:
            figure.suptitle(title)
        with written_whole(path) as temporary:
            figure.savefig(temporary)
    return chosen


def _draw_side(axes: Any, training: bool, curves: Sequence[tuple[Log, str]], names: Sequence[str],
               start_epoch: int) -> None:
    drawn = [(number, log.curve(key)) for number, (log, key) in enumerate(curves)]
    drawn = [(number, curve) for number, curve in drawn if curve.training == training]
    by_epoch = not training and all(epoch is not None for _, curve in drawn for epoch in curve.epochs)
    for number, curve in drawn:
        at = [i for i, epoch in enumerate(curve.epochs) if epoch is None or epoch >= start_epoch]
        places: Sequence[Any] = curve.epochs if by_epoch else curve.iterations
        axes.plot([places[i] for i in at], [curve.values[i] for i in at], label=names[number], color=f'C{number % 10}',
                  linewidth=1.4, marker=None if training and len(at) > 1 else 'o', markersize=4)
    axes.set_title('training' if training else 'validation')
    axes.set_xlabel('epoch' if by_epoch else 'iteration')
    axes.grid(alpha=0.3)
    if by_epoch:
        axes.xaxis.get_major_locator().set_params(integer=True)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8)


def _check(logs: Sequence[Log], keys: Sequence[str], asked: bool) -> None:
    for key in keys if asked else ():
        for log in logs:
            if log.find(key) is None:
                raise ConfigError(f'--keys: {log.path} has no {key!r}{did_you_mean(key, log.measured())}\n'
                                  f'  it has {", ".join(log.measured())}')


def _style(name: str | None) -> str:
    import matplotlib.style
    if name is None or name.lower() == 'none':
        return 'default'
    full = f'seaborn-v0_8-{name}' if name in SEABORN else name
    if full not in matplotlib.style.available:
        known = [*SEABORN, *(s for s in matplotlib.style.available if not s.startswith('_'))]
        raise ConfigError(f'--style: matplotlib has no style {name!r}{did_you_mean(name, known)}')
    return full


@dataclass(frozen=True)
class TrainTime:
    """How long iterations took, in seconds.

    Attributes:
        epochs: {epoch: mean of its records}.
        mean: over all records.
        std: of the epochs' means.
    """

    epochs: dict[int, float]
    mean: float
    std: float

    @property
    def slowest(self) -> int:
        return max(self.epochs, key=self.epochs.__getitem__)

    @property
    def fastest(self) -> int:
        return min(self.epochs, key=self.epochs.__getitem__)


def train_time(log: Log, include_outliers: bool = False) -> TrainTime:
    """The time of iterations in each epoch; the first record of an epoch, which has the start in it, is left out.

    Args:
        log: a training.
        include_outliers: count the first record of each epoch too; it counts in any case where it is the only one.

    Raises:
        OmniDetError: the log has no times.
    """
    times: dict[int, list[float]] = {}
    for record in log.train:
        if isinstance(record.get('time'), (int, float)):
            times.setdefault(int(record.get('epoch', 1)), []).append(float(record['time']))
    if not times:
        raise OmniDetError(f'{log.path} has no time of iterations')
    if not include_outliers:
        times = {epoch: values[1:] or values for epoch, values in times.items()}
    means = {epoch: statistics.fmean(values) for epoch, values in times.items()}
    return TrainTime(means, statistics.fmean(v for values in times.values() for v in values),
                     statistics.pstdev(means.values()))

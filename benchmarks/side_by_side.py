"""What the comparisons with other projects have in common: arguments, timers of stages, measuring in pairs, a table."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))    # works without an installation too

from omnidet.engine.allocator import keep_freed_memory  # noqa: E402
from omnidet.files import written_whole  # noqa: E402
from omnidet.structures import Targets  # noqa: E402

Row = dict[str, Any]
REST = 'the rest'
clock = time.perf_counter


def arguments(description: str | None, size: tuple[int, int], models: Sequence[str] = (), pairs: int = 5
              ) -> argparse.Namespace:
    """The command line of a comparison, read; torch's threads and the clock are set by it.

    Args:
        description: of the script.
        size: (h, w) of the images by default.
        models: what `--model` may name; there is no such argument without.
        pairs: how many there are by default.
    """
    global clock
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if models:
        parser.add_argument('--model', choices=tuple(models), help='one of them; all by default')
    parser.add_argument('--threads', type=int, default=2, help="torch's threads")
    parser.add_argument('--pairs', type=int, default=pairs, help='how often each side is measured, after a warm-up')
    parser.add_argument('--size', type=int, nargs=2, default=size, help='height and width of the image')
    parser.add_argument('--only', choices=('predict', 'train'), help='one half of the comparison')
    parser.add_argument('--out', type=Path, help='write the figures to this json too')
    parser.add_argument('--cpu-time', action='store_true',
                        help='count CPU seconds: what a busy machine can measure too; set OMP_WAIT_POLICY=PASSIVE')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.cpu_time:
        clock = time.process_time
    keep_freed_memory()    # as `train` does; both sides gain from it
    return args


class Timer:
    """Seconds of a model's stages; a stage that runs inside another is taken off it.

    Args:
        modules: the module, or modules, of each stage: their forward passes count.
        methods: the object and the name of the method of a stage that is none; it is replaced on the object.
    """

    def __init__(self, modules: Mapping[str, Any], methods: Mapping[str, tuple[Any, str]] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[tuple[str, float]] = []
        for name, found in modules.items():
            for module in found if isinstance(found, (tuple, list)) else (found,):
                module.register_forward_pre_hook(lambda *_, name=name: self._begin(name))
                module.register_forward_hook(lambda *_: self._end())
        for name, (owner, attribute) in (methods or {}).items():
            setattr(owner, attribute, self._timed(name, getattr(owner, attribute)))

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self(name):
                return function(*args, **kwargs)
        return timed

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._begin(name)
        yield
        self._end()

    def _begin(self, name: str) -> None:
        self._open.append((name, clock()))

    def _end(self) -> None:
        name, start = self._open.pop()
        passed = clock() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + passed
        if self._open:
            outer = self._open[-1][0]
            self.seconds[outer] = self.seconds.get(outer, 0.0) - passed


def objects(size: tuple[int, int], count: int = 8) -> dict[str, Tensor]:
    """`count` random boxes (count, 4) in an image of `size`, and their labels (count,)."""
    corner = torch.rand(count, 2) * torch.tensor([size[1] / 2, size[0] / 2])
    boxes = torch.cat([corner, corner + 16 + torch.rand(count, 2) * min(size) / 3], 1)
    return dict(boxes=boxes, labels=torch.arange(count))


def batch_of(item: Mapping[str, Tensor], size: tuple[int, int]) -> Targets:
    """One image's objects as a batch's."""
    return Targets.collate([dict(item)], size)


def training_step(model: nn.Module, losses: Callable[[], Tensor], timer: Timer,
                  optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> Callable[[], None]:
    """A step: the sum that `losses` gives, the backward pass, the optimiser."""
    step_of = optimizer([p for p in model.parameters() if p.requires_grad])

    def step() -> None:
        step_of.zero_grad(set_to_none=True)
        total = losses()
        with timer('backward pass'):
            total.backward()
        step_of.step()
    return step


def compare(name: str, ours: Callable[[], Any], theirs: Callable[[], Any], mine: Timer, others: Timer, pairs: int
            ) -> Row:
    """Median seconds of both, the median of the pairs' ratios, and the mean seconds of the stages."""
    seconds = []
    for i in range(pairs + 1):
        if i == 1:    # the first was the warm-up
            mine.seconds, others.seconds = {}, {}
        start = clock()
        ours()
        half = clock()
        theirs()
        if i:
            seconds.append((half - start, clock() - half))
    for side, timer in enumerate((mine, others)):
        timer.seconds[REST] = sum(pair[side] for pair in seconds) - sum(timer.seconds.values())
    return dict(name=name, ours=statistics.median(o for o, _ in seconds),
                theirs=statistics.median(t for _, t in seconds), ratio=statistics.median(o / t for o, t in seconds),
                stages={k: (mine.seconds.get(k, 0.0) / pairs, others.seconds.get(k, 0.0) / pairs)
                        for k in sorted({**others.seconds, **mine.seconds}, key=lambda k: k == REST)})


def report(args: argparse.Namespace, rows: list[Row], what: str, peer: str, version: str) -> None:
    """Print what was measured as a table, and write it where `args` says."""
    print(f'{args.threads} threads, torch {torch.__version__}, {peer} {version}, {args.size[0]} x {args.size[1]} px, '
          f'{"CPU" if args.cpu_time else "wall"} time\n')
    print(to_markdown(rows, what, peer))
    if args.out:
        with written_whole(args.out) as temporary:
            temporary.write_text(json.dumps(rows, indent=1) + '\n')


def to_markdown(rows: list[Row], what: str, peer: str) -> str:
    """The rows of `compare`, each with its stages below it."""
    lines = [f'| {what} | OmniDet, ms | {peer}, ms | ratio |', '|---|---|---|---|']
    for row in rows:
        pairs = [(row['name'], row['ours'], row['theirs'], row['ratio'])]
        pairs += [(f'- {stage}', a, b, a / b if b else 0) for stage, (a, b) in row['stages'].items()]
        lines += [f'| {name} | {1000 * a:.0f} | {1000 * b:.0f} | {ratio:.2f} |' for name, a, b, ratio in pairs]
    return '\n'.join(lines)

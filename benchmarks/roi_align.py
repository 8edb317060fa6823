"""RoIAlign on a CPU beside torchvision's, forward and backward.

    python benchmarks/roi_align.py [--threads 2] [--pairs 7] [--cpu-time] [--out benchmarks/roi_align.json]

Two loads: a thousand boxes of up to 610 px on one map (the load of OmniDet's goal), and a thousand proposals of every
size spread over the four levels of a feature pyramid, as a two-stage detector has them. Both sides get the same tensors
in turns, pair by pair, so that what else the machine does falls on both; a ratio is the median over the pairs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))    # works without an installation too

from omnidet.files import written_whole  # noqa: E402
from omnidet.ops.roi_align import roi_align  # noqa: E402

Call = Callable[..., Tensor]
DIRECTIONS = ('forward', 'backward')
clock = time.perf_counter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--threads', type=int, default=2, help="torch's threads")
    parser.add_argument('--pairs', type=int, default=7, help='how often each side is measured, after a warm-up')
    parser.add_argument('--out', type=Path, help='write the figures to this json too')
    parser.add_argument('--cpu-time', action='store_true',
                        help='count CPU seconds: what a busy machine can measure too; set OMP_WAIT_POLICY=PASSIVE')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.cpu_time:
        global clock
        clock = time.process_time
    rows = [measure(name, levels, ratio, args.pairs) for name, levels, ratio in loads()]
    print(f'{args.threads} threads, torch {torch.__version__}, torchvision {torchvision.__version__}, '
          f'{"CPU" if args.cpu_time else "wall"} time\n')
    print(to_markdown(rows))
    if args.out:
        with written_whole(args.out) as temporary:
            temporary.write_text(json.dumps(rows, indent=1) + '\n')


def loads() -> Iterator[tuple[str, list[tuple[Tensor, Tensor, float]], int]]:
    """Name, the levels as (map, boxes, scale), and the sampling ratio."""
    torch.manual_seed(0)
    corner, side = torch.rand(1000, 2) * 600, 10 + torch.rand(1000, 2) * 600
    rois = torch.cat([torch.zeros(1000, 1), corner, corner + side], 1)
    feat = torch.randn(1, 256, 200, 304)
    yield 'boxes up to 610 px on one 200 x 304 map, adaptive samples', [(feat, rois, 1 / 4)], 0
    last = feat.contiguous(memory_format=torch.channels_last)
    yield 'the same, channels_last', [(last, rois, 1 / 4)], 0
    for ratio, name in ((0, 'adaptive samples'), (2, '2 x 2 samples')):
        yield f'proposals on four levels, {name}', pyramid(), ratio


def pyramid() -> list[tuple[Tensor, Tensor, float]]:
    """Proposals on an 800 x 1216 image, sides from 16 to 640 px, each on its level (arXiv:1612.03144, equation 1)."""
    side = 16 * 40 ** torch.rand(1000, 1) * 2 ** (torch.rand(1000, 2) - 0.5)
    corner = torch.rand(1000, 2) * (torch.tensor([1216.0, 800.0]) - side).clamp(min=0)
    rois = torch.cat([torch.zeros(1000, 1), corner, (corner + side).minimum(torch.tensor([1216.0, 800.0]))], 1)
    level = (4 + torch.log2(side.prod(1).sqrt() / 224 + 1e-6)).floor().clamp(2, 5)
    return [(torch.randn(1, 256, 800 // 2 ** i, 1216 // 2 ** i), rois[level == i], 2.0 ** -i) for i in range(2, 6)]


def measure(name: str, levels: list[tuple[Tensor, Tensor, float]], ratio: int, pairs: int) -> dict[str, Any]:
    """Seconds of both sides and the median ratio of the pairs; the values are compared on the way."""
    seconds: list[tuple[tuple[float, float], tuple[float, float]]] = []
    worst = 0.0
    for i in range(pairs + 1):
        ours, mine = step(roi_align, levels, ratio)
        theirs, others = step(torchvision.ops.roi_align, levels, ratio)
        if i == 0:
            worst = max(float((a - b).abs().max()) for a, b in zip(mine, others, strict=True))
        else:
            seconds.append((ours, theirs))
    out: dict[str, Any] = dict(load=name, worst_difference=worst)
    for k, direction in enumerate(DIRECTIONS):
        out[direction] = dict(ours=statistics.median(o[k] for o, _ in seconds),
                              theirs=statistics.median(t[k] for _, t in seconds),
                              times_faster=statistics.median(t[k] / o[k] for o, t in seconds))
    return out


def step(call: Call, levels: list[tuple[Tensor, Tensor, float]],
         ratio: int) -> tuple[tuple[float, float], list[Tensor]]:
    """Seconds of the forward and of the backward pass, and the values; the gradients are compared by the tests."""
    leaves = [feat.detach().requires_grad_() for feat, _, _ in levels]
    start = clock()
    outs = [call(leaf, rois, (7, 7), scale, ratio, True)
            for leaf, (_, rois, scale) in zip(leaves, levels, strict=True)]
    forward = clock()
    torch.autograd.backward(outs, [torch.ones_like(o) for o in outs])
    return (forward - start, clock() - forward), [o.detach() for o in outs]


def to_markdown(rows: list[dict[str, Any]]) -> str:
    lines = ['| 1,000 boxes, 256 channels, 7 x 7 bins, fp32 | | OmniDet, ms | torchvision, ms | times faster |',
             '|---|---|---|---|---|']
    for row in rows:
        for direction in DIRECTIONS:
            v = row[direction]
            lines.append(f'| {row["load"]} | {direction} | {1000 * v["ours"]:.0f} | {1000 * v["theirs"]:.0f} | '
                         f'{v["times_faster"]:.1f} |')
    worst = max(row['worst_difference'] for row in rows)
    return '\n'.join([*lines, '', f'Greatest difference of a value: {worst:.1e}'])


if __name__ == '__main__':
    main()

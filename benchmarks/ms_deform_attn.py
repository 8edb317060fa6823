"""Multi-scale deformable attention on a GPU: the Triton kernels beside the PyTorch forms.

    python benchmarks/ms_deform_attn.py [--pairs 7] [--size 800 1066] [--batch 2] [--out benchmarks/ms_deform_attn.json]

The loads are those of Deformable DETR: four levels of an image, eight heads of 32 channels, four points on each level;
in the encoder every cell is a query, in the decoder there are 300. Beside the kernels stand what runs without them
(`grid_sample` of each level), the same compiled by Inductor, and the bags of rows that run on a CPU. All take turns; a
figure is the median. Before that, output and gradients are held against the PyTorch form in float64. It needs a GPU and
Triton. Where the kernels win, OMNIDET_TRITON=1 makes training and prediction take them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))    # works without an installation too

from omnidet.files import written_whole  # noqa: E402
from omnidet.ops.ms_deform_attn import Shapes, _by_grids, _by_rows  # noqa: E402

Form = Callable[[Tensor, Shapes, Tensor, Tensor], Tensor]
Inputs = tuple[Tensor, Shapes, Tensor, Tensor]
REPEATS = 10
"""Calls between two looks at the clock."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pairs', type=int, default=7, help='how often each form is measured, after a warm-up')
    parser.add_argument('--size', type=int, nargs=2, default=(800, 1066), help='height and width of the images')
    parser.add_argument('--batch', type=int, default=2, help='images')
    parser.add_argument('--out', type=Path, help='write the figures to this json too')
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit('There is no GPU here, and the Triton kernels run on CUDA devices alone: nothing to measure.')
    if importlib.util.find_spec('triton') is None:
        raise SystemExit('Triton is not installed here: nothing to measure (pip install triton).')
    from omnidet.ops.ms_deform_attn_triton import fused
    forms = {'Triton': fused, 'grid_sample': _by_grids, 'grid_sample, compiled': torch.compile(_by_grids),
             'rows': _by_rows}
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        for name, queries in (('encoder', None), ('decoder', 300)):
            inputs = load(args.batch, *args.size, queries, dtype, 'cuda')
            rows += measure(f'{name}, {str(dtype)[6:]}', forms, inputs, args.pairs)
    print(f'{torch.cuda.get_device_name()}, torch {torch.__version__}, {args.batch} images of '
          f'{args.size[0]} x {args.size[1]} px\n')
    print(to_markdown(rows))
    if args.out:
        with written_whole(args.out) as temporary:
            temporary.write_text(json.dumps(rows, indent=1) + '\n')


def load(batch: int, height: int, width: int, queries: int | None, dtype: torch.dtype, device: str) -> Inputs:
    """Values, the levels' sizes at strides 8 to 64, locations around the queries' own places, and weights.

    As under autocast, locations and weights are float32 whatever the values are.
    """
    g = torch.Generator(device).manual_seed(0)
    shapes = [(-(-height // stride), -(-width // stride)) for stride in (8, 16, 32, 64)]
    cells = sum(h * w for h, w in shapes)
    if queries is None:
        centres = torch.cat([torch.cartesian_prod((torch.arange(h, device=device) + 0.5) / h,
                                                  (torch.arange(w, device=device) + 0.5) / w).flip(1)
                             for h, w in shapes])[None]    # (1, S, 2)
    else:
        centres = torch.rand(batch, queries, 2, generator=g, device=device)
    Q = centres.shape[1]
    sizes = torch.tensor([(w, h) for h, w in shapes], device=device)[:, None]
    offsets = 4 * torch.randn(batch, Q, 8, 4, 4, 2, generator=g, device=device) / sizes    # some cells of each level
    weights = torch.randn(batch, Q, 8, 16, generator=g, device=device).softmax(-1).view(batch, Q, 8, 4, 4)
    value = torch.randn(batch, cells, 8, 32, generator=g, device=device).to(dtype)
    return value, shapes, centres[:, :, None, None, None] + offsets, weights


def results(form: Form, inputs: Inputs) -> tuple[Tensor, ...]:
    """The output, and the gradients with respect to values, locations and weights."""
    value, shapes, locations, weights = inputs
    leaves = [t.detach().requires_grad_() for t in (value, locations, weights)]
    out = form(leaves[0], shapes, *leaves[1:])
    return out.detach(), *torch.autograd.grad(out, leaves, torch.ones_like(out))


def measure(load: str, forms: dict[str, Form], inputs: Inputs, pairs: int) -> list[dict[str, Any]]:
    """Milliseconds, memory and the greatest difference from float64, in parts of the greatest value, of each form."""
    value, shapes, locations, weights = inputs
    want = results(_by_grids, (value.double(), shapes, locations.double(), weights.double()))
    rows = {}
    for name, form in forms.items():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        results(form, inputs)    # the warm-up: compiles, and tries the kernels' configurations
        torch.cuda.reset_peak_memory_stats()
        got = results(form, inputs)
        rows[name] = dict(load=load, form=name, mib=(torch.cuda.max_memory_allocated() - before) / 2 ** 20,
                          difference=[float((a - b).abs().max() / b.abs().max())
                                      for a, b in zip(got, want, strict=True)])
    passes: dict[str, Callable[[Form], Any]] = {'forward': lambda form: form(*inputs),
                                                'both': lambda form: results(form, inputs)}
    for direction, call in passes.items():
        times: dict[str, list[float]] = {name: [] for name in forms}
        for _ in range(pairs):
            for name, form in forms.items():
                times[name].append(milliseconds(call, form))
        for name, found in times.items():
            rows[name][direction] = statistics.median(found)
    return list(rows.values())


def milliseconds(call: Callable[[Form], Any], form: Form) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(REPEATS):
        call(form)
    torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start) / REPEATS


def to_markdown(rows: list[dict[str, Any]]) -> str:
    lines = ['| | form | forward, ms | forward and backward, ms | MiB | off float64: output; gradients of values, '
             'locations, weights |', '|---|---|---|---|---|---|']
    for row in rows:
        off = ', '.join(f'{d:.0e}' for d in row['difference'])
        lines.append(f'| {row["load"]} | {row["form"]} | {row["forward"]:.2f} | {row["both"]:.2f} | {row["mib"]:.0f} | '
                     f'{off} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    main()

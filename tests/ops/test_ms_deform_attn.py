"""Multi-scale deformable attention's core against loops over points and against central differences."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from omnidet.ops.ms_deform_attn import _by_grids, _by_rows, ms_deform_attn

SHAPES = ((3, 5), (2, 1))
CORES = pytest.mark.parametrize('core', [_by_grids, _by_rows])


def case(B=2, M=2, D=3, Q=4, P=2, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    S, L = sum(h * w for h, w in SHAPES), len(SHAPES)
    value = torch.randn(B, S, M, D, generator=g, dtype=dtype)
    locations = torch.rand(B, Q, M, L, P, 2, generator=g, dtype=dtype) * 1.6 - 0.3    # some lie outside
    weights = torch.rand(B, Q, M, L, P, generator=g, dtype=dtype)
    return value, SHAPES, locations, weights


def bilinear(image, x, y):
    """The value of image[y][x] at a point in 0..1, cells centred at (i + 0.5) / size, 0 outside."""
    h, w = len(image), len(image[0])
    px, py = x * w - 0.5, y * h - 0.5
    total = torch.zeros_like(image[0][0])
    for j in (math.floor(py), math.floor(py) + 1):
        for i in (math.floor(px), math.floor(px) + 1):
            if 0 <= i < w and 0 <= j < h:
                total = total + image[j][i] * (1 - abs(px - i)) * (1 - abs(py - j))
    return total


def naive(value, shapes, locations, weights):
    B, Q, M, L, P, _ = locations.shape
    out = torch.zeros(B, Q, M, value.shape[-1], dtype=value.dtype)
    for b in range(B):
        for m in range(M):
            levels, start = [], 0
            for h, w in shapes:
                levels.append(value[b, start:start + h * w, m].view(h, w, -1))
                start += h * w
            for q in range(Q):
                for level in range(L):
                    for p in range(P):
                        x, y = locations[b, q, m, level, p].tolist()
                        out[b, q, m] += weights[b, q, m, level, p] * bilinear(levels[level], x, y)
    return out.flatten(2)


@CORES
def test_equals_a_loop_over_points(core):
    torch.testing.assert_close(core(*case()), naive(*case()))


@CORES
def test_gradients_are_those_of_central_differences(core):
    value, shapes, locations, weights = case(B=1, Q=2)
    inputs = [t.requires_grad_() for t in (value, locations, weights)]
    assert torch.autograd.gradcheck(lambda v, at, w: core(v, shapes, at, w), inputs)


def test_point_at_the_centre_of_a_cell_gives_that_cell():
    value = torch.arange(6.0).view(1, 6, 1, 1)
    at = torch.tensor([[2.5 / 3, 1.5 / 2]]).view(1, 1, 1, 1, 1, 2)    # column 2, row 1 of 2 x 3
    assert ms_deform_attn(value, [(2, 3)], at, torch.ones(1, 1, 1, 1, 1)).item() == 5


def test_half_of_a_point_at_the_border_falls_outside():
    value = torch.ones(1, 6, 1, 1)
    at = torch.tensor([0.0, 0.75]).view(1, 1, 1, 1, 1, 2)
    assert ms_deform_attn(value, [(2, 3)], at, torch.ones(1, 1, 1, 1, 1)).item() == pytest.approx(0.5)


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf, 1e30])
def test_location_gone_wild_reads_nothing_beyond_the_table(bad):
    value, shapes, locations, weights = case(dtype=torch.float32)
    locations[0, 0] = bad
    out = ms_deform_attn(value, shapes, locations, weights)
    torch.testing.assert_close(out[1], ms_deform_attn(value, shapes, case(dtype=torch.float32)[2], weights)[1])
    if bad == 1e30:
        assert (out[0, 0] == 0).all()


@CORES
def test_half_precision_keeps_its_kind(core):
    _, _, locations, weights = case(dtype=torch.float32)
    shapes = ((3, 150), (2, 1))    # a bfloat16 cannot tell such columns apart
    value = torch.randn(2, 452, 2, 3, generator=torch.Generator().manual_seed(1)).bfloat16()
    got = core(value, shapes, locations, weights)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), core(value.float(), shapes, locations, weights), atol=1e-2, rtol=1e-2)


def test_builds_on_the_meta_device():
    value, shapes, locations, weights = (t.to('meta') if torch.is_tensor(t) else t for t in case(dtype=torch.float32))
    assert ms_deform_attn(value, shapes, locations, weights).shape == (2, 4, 6)


def run(*arguments, **variables):
    """Standard output of a Python process under some environment variables."""
    done = subprocess.run([sys.executable, *arguments], env={**os.environ, **variables}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


HAS_TRITON = importlib.util.find_spec('triton') is not None


@pytest.mark.skipif(not HAS_TRITON, reason='needs triton')
def test_triton_kernels_agree_in_the_interpreter():
    file = Path(__file__).with_name('test_ms_deform_attn_triton.py')
    out = run('-m', 'pytest', '-q', '-p', 'no:cacheprovider', str(file), TRITON_INTERPRET='1')
    assert ' passed' in out, out


@pytest.mark.parametrize('asked', ['1', '0'])
def test_triton_is_imported_only_when_asked_for(asked):
    program = """
import sys, torch
from omnidet.ops import ms_deform_attn as module
ones = torch.ones
assert module.ms_deform_attn(ones(1, 1, 1, 1), [(1, 1)], ones(1, 1, 1, 1, 1, 2) / 2, ones(1, 1, 1, 1, 1)).item() == 1
print(module.FUSED, 'omnidet.ops.ms_deform_attn_triton' in sys.modules)
"""
    expected = asked == '1' and HAS_TRITON
    assert run('-c', program, OMNIDET_TRITON=asked).split() == [str(expected), str(expected)]

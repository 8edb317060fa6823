"""The Triton kernels against the PyTorch form, on a GPU, or on a CPU in Triton's interpreter.

`TRITON_INTERPRET=1 pytest tests/ops/test_ms_deform_attn_triton.py` runs the latter; `test_ms_deform_attn.py` does so in
a process of its own, as the variable must be set before triton is imported.
"""

from __future__ import annotations

import importlib.util
import math
import os

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from omnidet.ops import ms_deform_attn as pytorch_form

INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
if importlib.util.find_spec('triton') is None or not (INTERPRETED or torch.cuda.is_available()):
    pytest.skip('needs triton, and a GPU or TRITON_INTERPRET=1', allow_module_level=True)

from omnidet.ops import ms_deform_attn_triton as kernels  # noqa: E402

DEVICE = 'cpu' if INTERPRETED else 'cuda'
CASES = {
    'plain': dict(B=2, M=2, D=8, Q=32, P=1, shapes=((4, 6), (2, 3))),
    'odd': dict(B=1, M=3, D=5, Q=35, P=2, shapes=((5, 7), (3, 4), (1, 1))),
    'ones': dict(B=1, M=1, D=1, Q=1, P=1, shapes=((1, 1),)),
    'wide': dict(B=1, M=1, D=33, Q=3, P=1, shapes=((1, 9), (7, 1), (2, 2), (1, 1), (3, 1))),
}


def case(B=2, M=2, D=5, Q=5, P=1, shapes=((5, 7), (1, 1))):
    """Values, shapes, locations, some of which lie outside, and weights."""
    g = torch.Generator().manual_seed(0)
    value = torch.randn(B, sum(h * w for h, w in shapes), M, D, generator=g)
    locations = torch.rand(B, Q, M, len(shapes), P, 2, generator=g) * 1.6 - 0.3
    weights = torch.rand(B, Q, M, len(shapes), P, generator=g)
    return value.to(DEVICE), shapes, locations.to(DEVICE), weights.to(DEVICE)


def results(form, value, shapes, locations, weights, dtype=None):
    """The output, and the gradients of the three tensors for an uneven gradient of the output."""
    leaves = [(t if dtype is None else t.to(dtype)).detach().requires_grad_() for t in (value, locations, weights)]
    out = form(leaves[0], shapes, *leaves[1:])
    grad = torch.linspace(-1, 1, out.numel(), device=out.device).view(out.shape).to(value.dtype).to(out.dtype)
    return out.detach(), *torch.autograd.grad(out, leaves, grad)


def exact(*inputs):
    """What the PyTorch form gives in float64, which is more than the kernels may differ by."""
    return results(pytorch_form._by_rows, *inputs, dtype=torch.float64)


def agree(got, want, tolerance):
    torch.testing.assert_close(got.double(), want, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize('name', CASES)
def test_output_and_gradients_are_those_of_the_pytorch_form(name):
    inputs = case(**CASES[name])
    (out, *grads), (want, *want_grads) = results(kernels.fused, *inputs), exact(*inputs)
    agree(out, want, 1e-5)
    assert [g.shape for g in grads] == [inputs[0].shape, inputs[2].shape, inputs[3].shape]
    for got, expected in zip(grads, want_grads):
        assert expected.abs().max() > 1e-3
        agree(got, expected, 1e-4)


def test_gradients_are_those_of_differences():
    # Output is linear in values and weights, and along x or y within a cell, so that large steps see no curvature.
    value, shapes, locations, weights = case(B=1, M=1, D=2, Q=2, shapes=((3, 2), (1, 1)))
    g = torch.Generator().manual_seed(1)
    sizes = torch.tensor([(w, h) for h, w in shapes])[:, None]
    cell = (torch.rand(locations.shape, generator=g) * (sizes + 1)).floor() - 1    # from one before the first
    locations = ((cell + 0.7 + 0.6 * torch.rand(locations.shape, generator=g)) / sizes).to(DEVICE)
    inputs = [t.requires_grad_() for t in (value, locations, weights)]
    with pytest.warns(UserWarning, match='double precision'):
        assert torch.autograd.gradcheck(lambda v, at, w: kernels.fused(v, shapes, at, w), inputs, eps=1e-2, atol=2e-4,
                                        rtol=1e-4, nondet_tol=1e-5)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('also', [False, True], ids=['values', 'all inputs'])
def test_half_precision_is_summed_in_float32(dtype, also):
    value, shapes, locations, weights = case(B=1, M=1, P=7)
    inputs = (value.to(dtype), shapes, *(t.to(dtype) if also else t for t in (locations, weights)))
    for got, want, kind in zip(results(kernels.fused, *inputs), exact(*inputs),
                               (inputs[0], inputs[0], *inputs[2:]), strict=True):
        assert got.dtype == kind.dtype
        agree(got, want, max(torch.finfo(kind.dtype).eps, 1e-4))    # the interpreter cuts bfloat16 off


def test_strides_do_not_matter():
    value, shapes, locations, weights = case(P=2)
    value = value.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0)
    locations = locations.transpose(0, 1).contiguous().transpose(0, 1)
    weights = weights[..., :1].expand_as(weights)
    assert not any(t.is_contiguous() for t in (value, locations, weights))
    inputs = value, shapes, locations, weights
    for got, want in zip(results(kernels.fused, *inputs), exact(*inputs)):
        agree(got, want, 1e-4)
    leaves = []
    for leaf, form in ((value, kernels.fused), (value.double(), pytorch_form._by_rows)):
        form(leaf.requires_grad_(), shapes, locations, weights).sum().backward()    # of one number, expanded
        leaves.append(leaf)
    agree(leaves[0].grad, leaves[1].grad, 1e-4)


@pytest.mark.filterwarnings('ignore:invalid value encountered')
@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf, 1e30])
def test_location_gone_wild_reads_and_writes_nothing_beyond_the_table(bad):
    value, shapes, locations, weights = case()
    fine, wild = locations.clone(), locations.clone()
    fine[0, 0], wild[0, 0] = 7.0, bad
    got, want = (results(kernels.fused, value, shapes, at, weights) for at in (wild, fine))
    torch.testing.assert_close(got[1], want[1])    # the value's gradient: nothing comes from outside
    torch.testing.assert_close(got[0][1], want[0][1])
    torch.testing.assert_close(got[0][0, 1:], want[0][0, 1:])
    assert (got[0][0, 0] == 0).all() if bad == 1e30 else got[0][0, 0].isnan().all()    # a loss that shows it


def test_sizes_of_levels_fit_into_two_numbers():
    value = torch.zeros(1, 1, 1, 1)
    assert kernels.suits(value, [(32767, 1)] * 4) and not kernels.suits(value, [(1, 32768)] * 4)
    assert not kernels.suits(value.double(), [(1, 1)])
    inputs = case(B=1, M=1, D=1, Q=3, P=1, shapes=((1, 4095), (4095, 1), (1, 1), (1, 1), (1, 4095)))
    assert kernels.suits(inputs[0], inputs[1])
    agree(kernels.fused(*inputs), exact(*inputs)[0], 1e-3)    # float32 in 0..1 places 4095 cells to 2e-4


def test_operators_are_registered_as_torch_wants_them():
    value, shapes, locations, weights = case(B=1, M=1, Q=3)
    sizes = [n for shape in shapes for n in shape]
    leaves = [t.requires_grad_() for t in (value, locations, weights)]
    torch.library.opcheck(torch.ops.omnidet.ms_deform_attn.default, (leaves[0], sizes, *leaves[1:]))
    grad = torch.ones(1, 3, 5, device=DEVICE)
    torch.library.opcheck(torch.ops.omnidet.ms_deform_attn_backward.default,
                          (grad, value.detach(), sizes, locations.detach(), weights.detach()))


def test_compiles_as_one_graph_for_sizes_that_change():
    compiled = torch.compile(kernels.fused, fullgraph=True, dynamic=True, backend='aot_eager')
    for shapes, Q in ((((3, 4), (2, 2)), 5), (((5, 2), (3, 1)), 7)):
        inputs = case(B=1, shapes=shapes, Q=Q)
        for got, want in zip(results(compiled, *inputs), results(kernels.fused, *inputs)):
            torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


class Calls(TorchDispatchMode):
    """Names of the operators that are called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('device, asked, dtype, kernel', [
    ('cuda', True, torch.float32, True), ('cuda', True, torch.bfloat16, True), ('cuda', True, torch.float64, False),
    ('cuda', False, torch.float32, False), ('cpu', True, torch.float32, False)])
def test_only_tensors_on_a_cuda_device_go_to_the_kernels_and_only_when_asked_for(monkeypatch, device, asked, dtype,
                                                                                kernel):
    monkeypatch.setattr(pytorch_form, 'FUSED', asked)
    monkeypatch.setattr(pytorch_form, 'ms_deform_attn_triton', kernels, raising=False)
    grids = []

    def by_grids(value, shapes, locations, weights):    # its own operators ask older releases of torch for a GPU
        grids.append(shapes)
        return value.new_empty(2, 4, 15)
    monkeypatch.setattr(pytorch_form, '_by_grids', by_grids)
    with FakeTensorMode():    # shapes and devices alone: no GPU is needed
        value, locations, weights = (torch.empty(shape, device=device, dtype=dtype) for shape in (
            (2, 36, 3, 5), (2, 4, 3, 2, 2, 2), (2, 4, 3, 2, 2)))
        with Calls() as calls:
            out = pytorch_form.ms_deform_attn(value, ((5, 7), (1, 1)), locations, weights)
    assert out.shape == (2, 4, 15) and out.dtype == dtype and out.device.type == device
    assert ('ms_deform_attn' in calls.names) == kernel
    assert bool(grids) == (device == 'cuda' and not kernel)


@pytest.mark.skipif(INTERPRETED, reason='needs a GPU')
def test_no_call_waits_for_the_device():
    inputs = case()
    results(kernels.fused, *inputs)    # the first call compiles and measures
    value, shapes, locations, weights = inputs
    leaves = [t.requires_grad_() for t in (value, locations, weights)]
    torch.cuda.set_sync_debug_mode('error')
    try:
        kernels.fused(leaves[0], shapes, *leaves[1:]).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode('default')

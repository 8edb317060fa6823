from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch import Tensor

import omnidet.ops.roi_align as module
from omnidet.ops.roi_align import roi_align


def boxes_around_the_map(count: int, images: int, width: float, seed: int = 0) -> Tensor:
    """Boxes of all sizes, also without extent, turned inside out, beside the image, and larger than it."""
    g = torch.Generator().manual_seed(seed)
    corner = (torch.rand(count, 2, generator=g) * 1.5 - 0.25) * width
    side = torch.rand(count, 2, generator=g).square() * 1.6 * width - 0.05 * width
    image = torch.randint(0, images, (count, 1), generator=g).float()
    rois = torch.cat([image, corner, corner + side], 1)
    rois[0, 1:] = torch.tensor([3.0, 3.0, 3.0, 3.0])
    rois[1, 1:] = torch.tensor([-width, -width, 2 * width, 2 * width])
    rois[2, 1:] = torch.tensor([5 * width, 0, 6 * width, width])
    return rois


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 1, 2, 3])
@pytest.mark.parametrize(('output_size', 'shape', 'scale'), [
    (7, (2, 5, 13, 17), 0.25), ((3, 5), (1, 3, 1, 6), 0.5), ((2, 1), (3, 4, 20, 9), 1.0)])
def test_values_and_gradients_are_those_of_torchvision(aligned, sampling_ratio, output_size, shape, scale):
    torch.manual_seed(1)
    feat = torch.randn(shape)
    rois = boxes_around_the_map(40, shape[0], shape[3] / scale)
    ours, theirs = feat.clone().requires_grad_(), feat.clone().requires_grad_()
    found = roi_align(ours, rois, output_size, scale, sampling_ratio, aligned)
    expected = torchvision.ops.roi_align(theirs, rois, output_size, scale, sampling_ratio, aligned)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    grad = torch.randn_like(expected)
    found.backward(grad)
    expected.backward(grad)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=3e-5)    # hundreds of samples on a pixel


def test_a_ramp_keeps_the_mean_of_each_bin():
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    out = roi_align(ramp, torch.tensor([[0, 2.0, 3.0, 10.0, 7.0]]), (1, 4))
    torch.testing.assert_close(out[0, 0, 0], torch.tensor([2.5, 4.5, 6.5, 8.5]))    # bins of 2 px, half a px off


@pytest.mark.parametrize('pool_mode', ['avg', 'max'])
def test_gradcheck_in_double_precision(pool_mode):
    torch.manual_seed(0)
    feat = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    rois = boxes_around_the_map(8, 2, 12.0).double()
    assert torch.autograd.gradcheck(lambda f: roi_align(f, rois, (2, 3), 0.5, pool_mode=pool_mode), feat)


def naive_max(feat: Tensor, rois: Tensor, h: int, w: int, scale: float, ratio: int, aligned: bool) -> Tensor:
    """Sample by sample: the greatest bilinear value of each bin."""
    H, W = feat.shape[2:]
    out = feat.new_zeros(len(rois), feat.shape[1], h, w)
    for m, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
        shift = 0.5 if aligned else 0.0
        x1, y1, x2, y2 = (v * scale - shift for v in (x1, y1, x2, y2))
        width, height = (x2 - x1, y2 - y1) if aligned else (max(x2 - x1, 1), max(y2 - y1, 1))
        rows, columns = (ratio or math.ceil(height / h)), (ratio or math.ceil(width / w))
        for p in range(h):
            for q in range(w):
                values = []
                for i in range(rows):
                    for j in range(columns):
                        y, x = y1 + height / h * (p + (i + 0.5) / rows), x1 + width / w * (q + (j + 0.5) / columns)
                        if -1 <= y <= H and -1 <= x <= W:
                            y, x = min(max(y, 0), H - 1), min(max(x, 0), W - 1)
                            a, b = int(y), int(x)
                            c, d = min(a + 1, H - 1), min(b + 1, W - 1)
                            f, u, v = feat[int(image)], y - a, x - b
                            values.append((1 - u) * (1 - v) * f[:, a, b] + (1 - u) * v * f[:, a, d]
                                          + u * (1 - v) * f[:, c, b] + u * v * f[:, c, d])
                        else:
                            values.append(torch.zeros_like(feat[0, :, 0, 0]))
                if values:
                    out[m, :, p, q] = torch.stack(values).amax(0)
    return out


@pytest.mark.parametrize(('sampling_ratio', 'aligned'), [(0, True), (2, False)])
def test_max_mode_takes_the_greatest_sample(sampling_ratio, aligned, monkeypatch):
    torch.manual_seed(0)
    feat, rois = torch.randn(2, 3, 7, 9), boxes_around_the_map(12, 2, 18.0)
    expected = naive_max(feat, rois, 2, 3, 0.5, sampling_ratio, aligned)
    for chunk in (module.CHUNK, 1):
        monkeypatch.setattr(module, 'CHUNK', chunk)
        found = roi_align(feat, rois, (2, 3), 0.5, sampling_ratio, aligned, 'max')
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_chunks_change_nothing_but_the_order_of_sums(monkeypatch):
    feat, rois = torch.randn(2, 3, 20, 20, requires_grad=True), boxes_around_the_map(30, 2, 80.0)
    whole = roi_align(feat, rois, 5, 0.25)
    (whole_grad,) = torch.autograd.grad(whole.square().sum(), feat)
    monkeypatch.setattr(module, 'CHUNK', 200)
    pieces = roi_align(feat, rois, 5, 0.25)
    (pieces_grad,) = torch.autograd.grad(pieces.square().sum(), feat)
    assert torch.equal(whole, pieces)
    torch.testing.assert_close(whole_grad, pieces_grad)


def test_memory_layout_changes_no_value():
    feat, rois = torch.randn(2, 8, 9, 11), boxes_around_the_map(10, 2, 44.0)
    last = feat.contiguous(memory_format=torch.channels_last)
    assert torch.equal(roi_align(feat, rois, 7, 0.25), roi_align(last, rois, 7, 0.25))


@pytest.mark.parametrize('pool_mode', ['avg', 'max'])
def test_no_regions_give_no_output_and_no_gradient(pool_mode):
    feat = torch.randn(1, 3, 5, 5, requires_grad=True)
    out = roi_align(feat, torch.zeros(0, 5), (2, 4), pool_mode=pool_mode)
    assert out.shape == (0, 3, 2, 4)
    (grad,) = torch.autograd.grad(out.sum(), feat)
    assert not grad.any()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype):
    feat, rois = torch.randn(1, 4, 30, 30).to(dtype), boxes_around_the_map(20, 1, 120.0)
    out = roi_align(feat, rois, 7, 0.25)
    assert out.dtype == dtype
    assert torch.equal(out, roi_align(feat.float(), rois, 7, 0.25).to(dtype))


@pytest.mark.parametrize('value', [math.nan, math.inf, 1e30, -1e30])
def test_boxes_that_are_no_boxes_end_in_bounded_memory(value):
    rois = torch.tensor([[0, 1.0, 1.0, 4.0, 4.0], [0, 0.0, 0.0, value, value], [0, value, value, 5.0, 5.0]])
    out = roi_align(torch.ones(1, 1, 6, 6), rois, 2)
    assert out[0].eq(1).all()


def test_a_region_far_larger_than_the_map_costs_no_more_than_the_map():
    feat = torch.rand(1, 1, 6, 6)
    out = roi_align(feat, torch.tensor([[0, -1e7, -1e7, 1e7, 1e7]]), 1)
    assert 0 < out.item() < 1e-10    # the map's sum, spread over 2e7 x 2e7 samples


@pytest.mark.parametrize('pool_mode', ['avg', 'max'])
def test_shapes_follow_without_data(pool_mode):
    feat, rois = torch.empty(2, 8, 9, 9, device='meta'), torch.empty(5, 5, device='meta')
    out = roi_align(feat, rois, (3, 4), pool_mode=pool_mode)
    assert out.shape == (5, 8, 3, 4)


def test_it_is_one_opaque_call_for_the_compiler():
    rois = torch.tensor([[0, 1.0, 1.0, 4.0, 4.0]])
    compiled = torch.compile(lambda f: roi_align(f, rois, 2) * 2, backend='aot_eager', fullgraph=True)
    feat = torch.randn(1, 2, 6, 6, requires_grad=True)
    torch.testing.assert_close(compiled(feat), roi_align(feat, rois, 2) * 2)
    compiled(feat).sum().backward()
    assert feat.grad is not None and feat.grad.sum() == pytest.approx(16.0)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match='median'):
        roi_align(torch.ones(1, 1, 2, 2), torch.zeros(1, 5), 1, pool_mode='median')

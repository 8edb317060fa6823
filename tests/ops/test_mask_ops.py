"""Sampling and pasting of masks, held against whole images."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

import omnidet.ops.masks as ops
from omnidet.masks import InstanceMasks
from omnidet.ops.masks import crop_and_resize, paste_masks, resize_masks


def scene(seed: int, B: int = 2, G: int = 4, H: int = 60, W: int = 90) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, G, H, W) masks, some touching the border, and (B, G, 4) boxes around them; the last mask is empty."""
    rng = torch.Generator().manual_seed(seed)
    centre = torch.rand(B, G, 2, generator=rng) * torch.tensor([W, H])
    half = torch.rand(B, G, 2, generator=rng) * torch.tensor([W, H]) / 2 + 1
    y, x = torch.arange(H)[:, None] + 0.5, torch.arange(W) + 0.5
    cx, cy, rx, ry = (v[..., None, None] for v in (*centre.unbind(-1), *half.unbind(-1)))
    masks = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1
    masks[:, -1] = False
    return masks, torch.cat([centre - half, centre + half], dim=-1)


@pytest.mark.parametrize('out', [(28, 28), (5, 7), (1, 1)])
@pytest.mark.parametrize('seed', range(3))
def test_crops_equal_roi_align_of_the_whole_masks(out, seed, monkeypatch):
    masks, boxes = scene(seed)
    B, G = masks.shape[:2]
    monkeypatch.setattr(ops, 'BUDGET', 1 << 13)    # several chunks
    rng = torch.Generator().manual_seed(seed)
    image, instance = torch.randint(B, (50,), generator=rng), torch.randint(G, (50,), generator=rng)
    rois = boxes[image, instance] + torch.randn(50, 4, generator=rng) * 8    # some leave the image
    rois[:, 2:] = torch.maximum(rois[:, 2:], rois[:, :2] + 0.5)
    rois[0] = torch.tensor([20.0, 20, 20, 20])    # no extent
    rois[2] = torch.tensor([-200.0, -200, 400, 300])
    rois[3] = torch.tensor([500.0, 500, 600, 600])
    found = crop_and_resize(InstanceMasks.from_dense(masks), rois, image, instance, out)
    dense = masks.view(B * G, 1, *masks.shape[2:]).float()
    expected = roi_align(dense, torch.cat([(image * G + instance)[:, None].float(), rois], 1), out, 1.0, 0, True)[:, 0]
    assert found.shape == (50, *out) and expected.max() > 0.9
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


def test_crops_of_no_boxes_and_of_no_masks():
    none = torch.zeros(0, dtype=torch.int64)
    masks = InstanceMasks.from_dense(torch.ones(1, 2, 8, 8))
    assert crop_and_resize(masks, torch.zeros(0, 4), none, none, (28, 28)).shape == (0, 28, 28)
    one, box = torch.zeros(1, dtype=torch.int64), torch.tensor([[0.0, 0, 8, 8]])
    assert crop_and_resize(masks, box, one, one, (4, 4)).tolist() == [[[1.0] * 4] * 4]
    assert not crop_and_resize(InstanceMasks.from_dense(torch.zeros(1, 2, 8, 8)), box, one, one, (4, 4)).any()
    assert not crop_and_resize(masks, box[:, [2, 3, 0, 1]], one, one, (4, 4)).any()    # corners swapped


def naive_paste(probs: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int], threshold: float) -> torch.Tensor:
    """Every mask over the whole image."""
    H, W = size
    out = []
    for prob, (x1, y1, x2, y2) in zip(probs, boxes, strict=True):
        x = (torch.arange(W) + 0.5 - x1) / (x2 - x1) * 2 - 1
        y = (torch.arange(H) + 0.5 - y1) / (y2 - y1) * 2 - 1
        grid = torch.stack(torch.meshgrid(x, y, indexing='xy'), dim=-1)
        out.append(F.grid_sample(prob[None, None], grid[None], align_corners=False)[0, 0] >= threshold)
    return torch.stack(out)


@pytest.mark.parametrize('threshold', [0.5, 0.1])
@pytest.mark.parametrize('shape', [(28, 28), (14, 3)])
def test_pasting_equals_sampling_the_whole_image(shape, threshold, monkeypatch):
    monkeypatch.setattr(ops, 'BUDGET', 1 << 12)
    rng = torch.Generator().manual_seed(0)
    boxes = torch.rand(40, 4, generator=rng) * torch.tensor([90, 60, 60, 50]) - 10
    boxes[:, 2:] = boxes[:, :2] + boxes[:, 2:].clamp(min=0.3) + 0.1    # some leave the image, some are below a pixel
    probs = torch.rand(40, *shape, generator=rng)
    found, expected = paste_masks(probs, boxes, (60, 90), threshold), naive_paste(probs, boxes, (60, 90), threshold)
    assert (found.dense() != expected).sum() <= 2 and expected.sum() > 3000    # but for sums rounded otherwise


def test_a_full_mask_fills_its_box():
    boxes = torch.tensor([[2.0, 3, 10, 7], [4, 4, 5, 5]])
    masks = paste_masks(torch.ones(2, 28, 28), boxes, (12, 16), 0.6).dense()
    expected = torch.zeros(2, 12, 16, dtype=torch.bool)
    expected[0, 3:7, 2:10] = expected[1, 4, 4] = True
    assert torch.equal(masks, expected)


def test_pasting_nothing_and_outside_the_image():
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 6), 0.5).dense().shape == (0, 5, 6)
    far = torch.tensor([[100.0, 100, 120, 120], [-50, -50, -20, -20], [float('nan')] * 4])
    assert paste_masks(torch.ones(3, 28, 28), far, (30, 30), 0.5).dense().sum() <= 1


def test_500_masks_in_a_large_picture_take_little_memory():
    rng = torch.Generator().manual_seed(0)
    corner = torch.rand(500, 2, generator=rng) * torch.tensor([3700, 2700])
    boxes = torch.cat([corner, corner + 300], dim=1)
    with torch.profiler.profile(profile_memory=True) as profile:
        masks = paste_masks(torch.rand(500, 28, 28, generator=rng), boxes, (3000, 4000), 0.5)
    held = peak = 0
    for event in sorted((e for e in profile.profiler.kineto_results.events() if e.name() == '[memory]'),
                        key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    assert len(masks.bits) < 60e6 and 0 < peak < 150e6, peak    # 6 GB as whole images


@pytest.mark.parametrize('size', [(30, 90), (60, 45), (121, 133), (60, 90), (7, 1)])
def test_resizing_equals_nearest_interpolation(size):
    masks = scene(0)[0]
    found = resize_masks(InstanceMasks.from_dense(masks), size).dense()
    y, x = torch.arange(size[0]) * 60 // size[0], torch.arange(size[1]) * 90 // size[1]
    assert torch.equal(found, masks[..., y[:, None], x])

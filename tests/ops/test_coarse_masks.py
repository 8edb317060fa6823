"""Masks on coarser grids, their centres, and masks from small maps, against whole images."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from omnidet.masks import InstanceMasks
from omnidet.ops import masks as ops


def some(shape=(2, 4, 32, 48), seed=0):
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*shape[:2], 4, 6, generator=g) > 0.6
    dense = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3) & (torch.rand(shape, generator=g) > 0.2)
    dense[0, 1] = False
    dense[1, 2, :, :20] = False
    return dense, InstanceMasks.from_dense(dense)


def test_pixels_are_those_of_the_whole_image():
    dense, masks = some()
    instance = torch.tensor([7, 0, 1, 3, 3])
    x, y = torch.tensor([-1, 0, 5, 47, 48]), torch.tensor([31, 2, 60, -3])
    padded = F.pad(dense.flatten(0, 1), (3, 20, 3, 40))[instance]
    assert torch.equal(ops.pixels_at(masks, instance, x, y), padded[:, y + 3][:, :, x + 3])


def test_masks_without_any_pixel():
    masks = InstanceMasks.from_dense(torch.zeros(1, 2, 8, 8, dtype=torch.bool))
    assert not ops.pixels_at(masks, torch.tensor([0, 1]), torch.arange(8), torch.arange(8)).any()
    mass, center = ops.mass_and_center(masks)
    assert mass.tolist() == [[0, 0]] and not center.any()


def test_plain_stride_takes_the_pixel_behind_the_middle():
    dense, masks = some()
    instance = torch.arange(8)
    assert torch.equal(ops.masks_at_stride(masks, instance, 4, (8, 12)), dense.flatten(0, 1)[:, 2::4, 2::4])


def test_smooth_stride_shrinks_as_opencv_does():
    dense, masks = some()
    got = ops.masks_at_stride(masks, torch.arange(8), 4, (8, 12), smooth=True)
    want = [cv2.resize(m, (12, 8), interpolation=cv2.INTER_LINEAR) for m in dense.flatten(0, 1).byte().numpy()]
    assert np.array_equal(got.numpy(), np.stack(want))


def naive_center(mask):
    y, x = np.nonzero(mask.numpy())
    return [len(x), x.mean() if len(x) else 0, y.mean() if len(x) else 0]


def test_mass_and_center_are_those_of_the_whole_image(monkeypatch):
    dense, masks = some()
    want = torch.tensor([[naive_center(m) for m in image] for image in dense], dtype=torch.float32)
    for chunk in (ops.CHUNK, 17):
        monkeypatch.setattr(ops, 'CHUNK', chunk)
        mass, center = ops.mass_and_center(masks)
        torch.testing.assert_close(torch.cat([mass[..., None], center], -1), want)


def test_mass_and_center_of_chosen_and_repeated_masks():
    _, masks = some()
    mass, center = ops.mass_and_center(masks)
    image = masks[0]
    for index in ([3, 3, 0], [1], [2, 1, 1, 2], []):
        at = torch.tensor(index, dtype=torch.long)
        got = ops.mass_and_center(image[at])
        torch.testing.assert_close(got, (mass[0, at], center[0, at]))


def test_large_mask_has_an_exact_center():
    masks = InstanceMasks.from_dense(torch.ones(1, 2001, 1501, dtype=torch.bool))
    mass, center = ops.mass_and_center(masks)
    assert mass.tolist() == [2001 * 1501] and center.tolist() == [[750.0, 1000.0]]


def test_masks_from_maps_are_thresholded_a_few_at_a_time(monkeypatch):
    maps = torch.rand(5, 4, 6)

    def resize(m):
        return F.interpolate(m[None], size=(16, 24), mode='bilinear')[0]
    monkeypatch.setattr(ops, 'BUDGET', 2 * 16 * 24)
    masks = ops.threshold_resized(maps, resize, (16, 24), 0.6)
    assert torch.equal(masks.dense(), resize(maps) > 0.6)
    assert ops.threshold_resized(maps[:0], resize, (16, 24), 0.6).dense().shape == (0, 16, 24)

"""Masks as windows: from whole images and back, and in batches."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from omnidet.masks import InstanceMasks
from omnidet.structures import Result, Targets


def blobs(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random masks of various extents; the second is empty, the third one pixel, the fourth the whole image."""
    *leading, H, W = shape
    rng = torch.Generator().manual_seed(seed)
    out = torch.zeros(int(np.prod(leading)), H, W, dtype=torch.bool)
    for mask in out:
        y, x = int(torch.randint(H, (), generator=rng)), int(torch.randint(W, (), generator=rng))
        part = mask[y:y + H // 2, x:x + W // 2]
        part[:] = torch.rand(part.shape, generator=rng) > 0.4
    if len(out) > 3:
        out[1], out[2], out[3] = False, False, True
        out[2, H - 1, W - 1] = True
    return out.view(*shape)


@pytest.mark.parametrize('shape', [(6, 20, 31), (2, 5, 20, 31), (0, 20, 31), (20, 31), (2, 0, 4, 4)])
def test_whole_images_come_back(shape):
    dense = blobs(*shape)
    masks = InstanceMasks.from_dense(dense)
    assert masks.shape == shape and torch.equal(masks.dense(), dense)
    assert torch.equal(masks.area(), dense.sum(dim=(-1, -2)))


def test_windows_lie_close_around_what_is_set():
    dense = torch.zeros(3, 8, 9)
    dense[0, 2:5, 3:9] = 1
    dense[2, 7, 0] = 1
    masks = InstanceMasks.from_dense(dense)
    assert masks.windows.tolist() == [[3, 2, 9, 5], [0, 0, 0, 0], [0, 7, 1, 8]] and masks.starts.tolist() == [0, 18, 18]
    assert masks.bits.tolist() == [1] * 19


@pytest.mark.parametrize('index', [slice(1, 4), [3, 1], torch.tensor([5, 0]), torch.arange(6) % 2 == 0, 2])
def test_picking_equals_picking_whole_images(index):
    dense = blobs(6, 20, 31)
    assert torch.equal(InstanceMasks.from_dense(dense)[index].dense(), dense[index])


def test_crops_are_put_at_their_windows():
    crops = [np.array([[1, 0, 2]]), np.zeros((0, 0)), np.ones((2, 1), bool)]
    masks = InstanceMasks.from_windows([[1, 0, 4, 1], [0, 0, 0, 0], [3, 2, 4, 4]], crops, (4, 5))
    expected = torch.zeros(3, 4, 5, dtype=torch.bool)
    expected[0, 0, [1, 3]] = expected[2, 2:4, 3] = True
    assert torch.equal(masks.dense(), expected)


@pytest.mark.parametrize('window, crop', [([0, 0, 2, 2], np.ones((2, 3))), ([3, 0, 6, 1], np.ones((1, 3)))])
def test_a_crop_that_does_not_fit_is_refused(window, crop):
    with pytest.raises(ValueError, match='window'):
        InstanceMasks.from_windows([window], [crop], (4, 5))


def test_a_batch_holds_what_its_images_hold():
    a, b = blobs(5, 20, 31), blobs(2, 9, 40, seed=1)
    # picked ones share the bits of those that are not
    items = [InstanceMasks.from_dense(a)[[4, 0]], None, InstanceMasks.from_dense(b)]
    batch = InstanceMasks.stack(items, 3, (24, 48))
    expected = torch.zeros(3, 3, 24, 48, dtype=torch.bool)
    expected[0, :2, :20, :31], expected[2, :2, :9, :40] = a[[4, 0]], b
    assert batch.shape == (3, 3, 24, 48) and torch.equal(batch.dense(), expected)
    assert torch.equal(batch[2].dense(), expected[2]) and torch.equal(batch[1:].area(), expected[1:].sum(dim=(2, 3)))
    with pytest.raises(ValueError, match='do not fit'):
        InstanceMasks.stack(items, 3, (20, 31))


def test_enlarging_the_image_leaves_masks_where_they_are():
    dense = blobs(3, 6, 7)
    grown = InstanceMasks.from_dense(dense).padded((8, 12)).dense()
    assert torch.equal(grown[:, :6, :7], dense) and grown.sum() == dense.sum()


def test_targets_take_whole_images_arrays_and_windows_alike():
    dense = blobs(2, 6, 7)
    item = dict(boxes=torch.ones(2, 4), labels=[0, 1], size=(6, 7))
    forms = [dense, dense.numpy().astype(np.uint8), InstanceMasks.from_dense(dense)]
    for masks in forms:
        t = Targets.collate([{**item, 'masks': masks}, {'boxes': torch.zeros(0, 4), 'labels': []}], (8, 8))
        assert torch.equal(t.masks.dense()[0, :, :6, :7], dense) and not t.masks[1].bits[:0].any()
        assert t[:1].masks.shape == (1, 2, 8, 8) and t.to('cpu').masks.area().tolist() == t.masks.area().tolist()


def test_results_give_whole_images_only_when_they_are_read():
    dense = blobs(3, 6, 7)
    r = Result(torch.zeros(3, 4), torch.tensor([0.9, 0.5, 0.1]), torch.arange(3), masks=dense)
    assert isinstance(r.instance_masks, InstanceMasks) and torch.equal(r.masks, dense)
    kept = pickle.loads(pickle.dumps(r[r.scores < 0.6].cpu()))
    assert torch.equal(kept.masks, dense[1:]) and kept.labels.tolist() == [1, 2]
    moved = r.replace(boxes=torch.ones(3, 4))
    assert moved.boxes.all() and moved.instance_masks is r.instance_masks and moved.panoptic is None
    assert Result(r.boxes, r.scores, r.labels).masks is None and Result(r.boxes, r.scores, r.labels)[:1].masks is None

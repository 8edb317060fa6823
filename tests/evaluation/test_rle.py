"""Run lengths straight from windows."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from faster_coco_eval.core import mask as mask_api

from omnidet.evaluation.rle import encode_masks, readable, run_lengths
from omnidet.masks import InstanceMasks


def test_runs_of_a_small_part_are_counted_down_the_columns():
    crop = np.array([[1, 0], [1, 1]], np.uint8)    # in the image of 4 rows and 3 columns, from column 1 and row 2
    assert run_lengths(crop, 1, 2, 4, 3) == [6, 2, 3, 1]
    assert run_lengths(np.ones((4, 2), np.uint8), 0, 0, 4, 3) == [0, 8, 4]
    assert run_lengths(np.zeros((0, 0), np.uint8), 0, 0, 4, 3) == [12]


@pytest.mark.parametrize('seed', range(5))
def test_windows_are_encoded_as_cocos_tools_encode_whole_images(seed):
    rng = np.random.default_rng(seed)
    H, W = rng.integers(1, 40, 2)
    dense = rng.random((30, H, W)) < rng.random((30, 1, 1))
    dense[0], dense[1], dense[2] = False, True, False
    dense[2, :, W // 2:] = True    # whole columns, to the last pixel
    dense[3:8, H // 3:, :W // 2] = False
    for mask, rle in zip(dense, encode_masks(InstanceMasks.from_dense(dense)), strict=True):
        expected = mask_api.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert rle['counts'] == expected['counts'] and list(rle['size']) == [H, W]
        assert json.loads(json.dumps(readable(rle)))['counts'].encode() == expected['counts']


def test_loose_windows_and_picked_masks_are_encoded_alike():
    dense = torch.zeros(3, 10, 8, dtype=torch.bool)
    dense[0, 2:5, 3:6] = dense[2, 9, 7] = True
    loose = InstanceMasks.from_windows([[0, 0, 8, 10]] * 3, list(dense.numpy()), (10, 8))
    tight = InstanceMasks.from_dense(dense)
    assert encode_masks(loose) == encode_masks(tight)
    assert encode_masks(loose[[2, 0]]) == [encode_masks(tight)[2], encode_masks(tight)[0]]

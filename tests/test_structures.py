"""Padding ground truths of several images into one."""

from __future__ import annotations

import numpy as np
import torch

from omnidet.structures import Result, Targets


def test_collate_pads_to_the_longest_and_marks_what_is_real():
    t = Targets.collate([{'boxes': np.array([[1., 2, 3, 4], [5, 6, 7, 8], [0, 0, 9, 9]]), 'labels': [3, 1, 2],
                          'ignore': [False, True, False], 'size': (10, 12)},
                         {'boxes': np.zeros((0, 4)), 'labels': []}], (16, 32))
    assert t.boxes.shape == (2, 3, 4) and t.boxes[0, 1].tolist() == [5, 6, 7, 8] and not t.boxes[1].any()
    assert t.labels.tolist() == [[3, 1, 2], [0, 0, 0]] and t.labels.dtype == torch.int64
    assert t.valid.tolist() == [[True, False, True], [False] * 3]
    assert t.ignore.tolist() == [[False, True, False], [False] * 3]
    assert t.sizes.tolist() == [[10, 12], [16, 32]]
    assert t.masks is None and t.sem_seg is None and t.proposals is None


def test_a_batch_without_objects_still_has_two_places():
    assert Targets.collate([{'boxes': torch.zeros(0, 4), 'labels': torch.zeros(0)}], (8, 8)).boxes.shape == (1, 2, 4)


def test_masks_and_maps_are_padded_at_the_right_and_bottom():
    item = {'boxes': torch.ones(1, 4), 'labels': torch.ones(1), 'masks': torch.ones(1, 3, 2, dtype=torch.uint8),
            'sem_seg': torch.full((3, 2), 7), 'proposals': torch.ones(4, 4), 'size': (3, 2)}
    t = Targets.collate([item, {'boxes': torch.zeros(0, 4), 'labels': []}], (4, 5))
    masks = t.masks.dense()
    assert masks.shape == (2, 2, 4, 5) and masks[0, 0, :3, :2].all() and masks.sum() == 6
    assert (t.sem_seg[0, :3, :2] == 7).all() and (t.sem_seg == 255).sum() == 2 * 20 - 6
    assert t.proposals_valid.tolist() == [[True] * 4, [False] * 4]


def test_slices_of_targets_and_results():
    t = Targets.collate([{'boxes': torch.ones(1, 4) * i, 'labels': [i]} for i in range(3)], (8, 8))
    assert t[1:].labels[:, 0].tolist() == [1, 2] and len(t[1:]) == 2
    r = Result(torch.arange(8.).reshape(2, 4), torch.tensor([0.9, 0.1]), torch.tensor([1, 0]))
    assert len(r[r.scores > 0.5]) == 1 and r[r.scores > 0.5].labels.tolist() == [1]

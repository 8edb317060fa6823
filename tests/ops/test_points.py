"""Sampling at points, held against grid_sample of whole images."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from omnidet.masks import InstanceMasks
from omnidet.ops.points import (
    even_points,
    sample_class,
    sample_classes,
    sample_maps,
    sample_masks,
    uncertain_points,
)


def whole(images, points):
    """(M, H, W), (M, P, 2) -> (M, P)."""
    return F.grid_sample(images[:, None].float(), 2 * points[:, None] - 1, align_corners=False)[:, 0, 0]


def points_and_edges(M, P):
    """Some beyond the border of the image, and the very corners."""
    points = torch.rand(M, P, 2) * 1.2 - 0.1
    points[:, :4] = torch.tensor([[0.0, 0], [1, 1], [0, 1], [1, 0]])
    return points


def test_masks_at_points_equal_whole_ones():
    torch.manual_seed(0)
    dense = torch.zeros(2, 4, 20, 33, dtype=torch.bool)
    dense[0, 0, 3:15, 4:30], dense[0, 1] = torch.rand(12, 26) < 0.5, True
    dense[1, 0, :1, :1] = dense[1, 2, -3:, -5:] = True    # and four empty ones
    which = torch.randint(8, (30,))
    points = points_and_edges(30, 50)
    found = sample_masks(InstanceMasks.from_dense(dense), which, points)
    torch.testing.assert_close(found, whole(dense.flatten(0, 1)[which], points), rtol=0, atol=1e-5)


def test_no_masks_and_no_points_are_fine():
    empty = InstanceMasks.from_dense(torch.zeros(2, 3, 5, 5))
    assert sample_masks(empty, torch.tensor([0, 5]), torch.rand(2, 7, 2)).tolist() == [[0.0] * 7] * 2
    assert sample_masks(empty, torch.zeros(0, dtype=torch.long), torch.rand(0, 7, 2)).shape == (0, 7)


def test_classes_at_points_equal_whole_masks_of_them():
    torch.manual_seed(1)
    sem_seg = torch.randint(0, 7, (2, 9, 14))
    sem_seg[sem_seg == 6] = 255
    points = points_and_edges(2, 80)
    got = sample_classes(sem_seg, 3, 4, points)
    for n, label in enumerate(range(3, 7)):
        torch.testing.assert_close(got[:, n], whole(sem_seg == label, points), rtol=0, atol=1e-5)
    image, label = torch.tensor([1, 0, 1]), torch.tensor([5, 0, 255])
    points = points_and_edges(3, 80)
    got = sample_class(sem_seg, image, label, points)
    torch.testing.assert_close(got, whole(sem_seg[image] == label[:, None, None], points), rtol=0, atol=1e-5)


def test_maps_at_points_have_gradients():
    maps = torch.randn(2, 3, 6, 5, dtype=torch.double, requires_grad=True)
    points = torch.rand(2, 4, 2, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda m: sample_maps(m, points), (maps,))
    torch.testing.assert_close(sample_maps(maps.float(), points.float())[:, 1],
                               whole(maps[:, 1].float(), points.float()))


def test_even_points_fill_the_image_better_than_chance_and_differ_between_sets():
    torch.manual_seed(0)
    points = even_points(50, 1024, torch.device('cpu'))
    assert points.min() >= 0 and points.max() < 1
    cells = (points * 16).long()
    counts = torch.stack([(c[:, 0] * 16 + c[:, 1]).bincount(minlength=256) for c in cells])    # 4 in each by chance
    assert counts.float().std() < 1.2 and counts.min() >= 1    # 2 if they were independent
    assert (points[0] - points[1]).abs().min() > 0
    assert abs(points[:, 7].mean() - 0.5) < 0.15 and points[:, 7].std() > 0.2    # any one of them may lie anywhere


@pytest.mark.parametrize('share', [0.0, 0.75, 1.0])
def test_uncertain_points_lie_where_logits_are_near_zero(share):
    torch.manual_seed(0)
    x = torch.linspace(-10, 10, 40)
    maps = x.expand(3, 30, 40)    # zero at the middle column
    points = uncertain_points(maps, 400, 3.0, share)
    assert points.shape == (3, 400, 2)
    near = ((points[..., 0] - 0.5).abs() < share * 400 / 1200 / 2 + 0.02).float().mean().item()
    if share:    # the most uncertain of 1200 are those of a strip, and a few of the others lie in it too
        assert near == pytest.approx(share + (1 - share) * (share / 3 + 0.04), abs=0.03)
    else:
        assert near == pytest.approx(0.04, abs=0.02)

from __future__ import annotations

import math

import torch
import torchvision
from torch import Tensor

from omnidet.ops.deform_roi_pool import deform_roi_pool


def sample(feat: Tensor, y: float, x: float) -> Tensor:
    """The bilinear value (C,) of one map (C, H, W); 0 farther than a pixel outside."""
    _, H, W = feat.shape
    if not (-1 <= y <= H and -1 <= x <= W):
        return feat.new_zeros(len(feat))
    y, x = min(max(y, 0), H - 1), min(max(x, 0), W - 1)
    a, b = int(y), int(x)
    c, d, u, v = min(a + 1, H - 1), min(b + 1, W - 1), y - int(y), x - int(x)
    return ((1 - u) * (1 - v) * feat[:, a, b] + (1 - u) * v * feat[:, a, d]
            + u * (1 - v) * feat[:, c, b] + u * v * feat[:, c, d])


def naive(feat: Tensor, rois: Tensor, offset: Tensor, scale: float, ratio: int, gamma: float) -> Tensor:
    M, _, h, w = offset.shape
    out = torch.zeros(M, feat.shape[1], h, w)
    for m, (image, x1, y1, x2, y2) in enumerate((rois * torch.tensor([1, *[scale] * 4])).tolist()):
        height, width = y2 - y1, x2 - x1
        rows, columns = ratio or math.ceil(height / h), ratio or math.ceil(width / w)
        for p in range(h):
            for q in range(w):
                dx, dy = (gamma * offset[m, :, p, q]).tolist()
                values = [sample(feat[int(image)],
                                 y1 - 0.5 + dy * height + height / h * (p + (i + 0.5) / rows),
                                 x1 - 0.5 + dx * width + width / w * (q + (j + 0.5) / columns))
                          for i in range(rows) for j in range(columns)]
                out[m, :, p, q] = torch.stack(values).mean(0)
    return out


ROIS = torch.tensor([[0, 2.0, 3.0, 25.0, 18.0], [1, -4.0, 0.0, 7.0, 30.0], [1, 10.0, 10.0, 13.0, 40.0]])


def test_bins_move_as_in_a_naive_loop():
    torch.manual_seed(0)
    feat, offset = torch.randn(2, 3, 14, 12), 3 * torch.randn(3, 2, 2, 4)
    for ratio in (0, 2):
        found = deform_roi_pool(feat, ROIS, offset, (2, 4), 0.5, ratio, gamma=0.2)
        torch.testing.assert_close(found, naive(feat, ROIS, offset, 0.5, ratio, 0.2), rtol=0, atol=2e-5)


def test_bins_at_rest_are_those_of_roi_align():
    feat = torch.randn(2, 3, 14, 12)
    expected = torchvision.ops.roi_align(feat, ROIS, 3, 0.5, 0, aligned=True)
    for offset in (None, torch.zeros(3, 2, 3, 3)):
        torch.testing.assert_close(deform_roi_pool(feat, ROIS, offset, 3, 0.5), expected, rtol=0, atol=1e-5)


def test_an_offset_of_ten_moves_a_bin_by_the_width_of_its_region():
    ramp = torch.arange(30.0).expand(1, 1, 30, 30)
    roi = torch.tensor([[0, 4.0, 4.0, 8.0, 8.0]])
    offset = torch.zeros(1, 2, 1, 2)
    offset[0, 0, 0, 1] = 10.0    # along x, the second bin, gamma 0.1
    found = deform_roi_pool(ramp, roi, offset, (1, 2))
    torch.testing.assert_close(found[0, 0, 0], torch.tensor([4.5, 6.5 + 4.0]))


def test_gradients_reach_the_map_and_the_offsets():
    torch.manual_seed(0)
    feat = torch.randn(2, 2, 14, 12, dtype=torch.float64, requires_grad=True)
    offset = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f, o: deform_roi_pool(f, ROIS.double(), o, 2, 0.5), (feat, offset))


def test_no_regions_give_no_output():
    out = deform_roi_pool(torch.randn(1, 3, 5, 5), torch.zeros(0, 5), torch.zeros(0, 2, 2, 2), 2)
    assert out.shape == (0, 3, 2, 2)

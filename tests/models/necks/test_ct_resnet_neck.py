"""CTResNetNeck: sizes, the first values of its transposed convolutions, and what it refuses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from omnidet.errors import ConfigError
from omnidet.models.necks.ct_resnet_neck import CTResNetNeck, bilinear_


@pytest.mark.parametrize('kernels', [(4, 4), (3, 4)])
@torch.no_grad()
def test_each_pair_of_layers_doubles_the_last_map(kernels):
    neck = CTResNetNeck(8, (6, 4), kernels, use_dcn=False).eval()
    last = torch.randn(2, 8, 3, 5)
    out, = neck((torch.randn(2, 4, 9, 9), last))
    want = (12, 20) if kernels == (4, 4) else (10, 18)    # windows of 3 give one pixel less
    assert out.shape == (2, 4, *want)


@pytest.mark.parametrize('use_dcn', [False, True])
def test_deformable_convolutions_begin_as_plain_ones(use_dcn):
    neck = CTResNetNeck(8, (4,), (4,), use_dcn=use_dcn).eval()
    conv = neck.deconv_layers[0].conv
    x = torch.randn(1, 8, 5, 5)
    factor = 0.5 if use_dcn else 1.0    # the sigmoid of a weight of each sample that begins at 0
    bias = getattr(conv, 'bias', None)
    want = F.conv2d(x, conv.weight * factor, bias, padding=1)
    torch.testing.assert_close(conv(x), want, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_transposed_convolutions_begin_as_bilinear_enlargement():
    conv = torch.nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1, bias=False)
    bilinear_(conv)
    x = torch.randn(1, 1, 6, 7)
    want = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)
    torch.testing.assert_close(conv(x)[..., 1:-1, 1:-1], want[..., 1:-1, 1:-1])    # at the edge one of them pads with 0


def test_lists_of_different_length_are_refused():
    with pytest.raises(ConfigError, match='as many'):
        CTResNetNeck(8, (4, 4), (4,))

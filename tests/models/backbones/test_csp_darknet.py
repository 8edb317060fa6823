"""CSPDarknet and YOLOX's pyramid: the stem against a convolution of stride 2, strides, frozen stages, errors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from omnidet.errors import ConfigError
from omnidet.models.backbones.csp_darknet import CSPDarknet, Focus
from omnidet.registry import NECKS

TINY = {'deepen_factor': 0.33, 'widen_factor': 0.125}


def test_stem_is_a_convolution_of_6_x_6_with_stride_2():
    focus = Focus(3, 5, act_cfg=None)
    torch.nn.init.normal_(focus.conv.conv.weight)
    wide = torch.zeros(5, 3, 6, 6)
    for n, (dy, dx) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):    # top left, bottom left, top right, bottom right
        wide[:, :, dy::2, dx::2] = focus.conv.conv.weight[:, 3 * n:3 * n + 3]
    x = torch.randn(2, 3, 16, 12)
    want = F.conv2d(x, wide, focus.conv.conv.bias, stride=2, padding=2)
    assert torch.allclose(focus(x), want, atol=1e-4)


@pytest.mark.parametrize('arch, widths', [('P5', [8, 16, 32, 64, 128]), ('P6', [8, 16, 32, 64, 96, 128])])
def test_every_stage_halves_the_map(arch, widths):
    model = CSPDarknet(arch, **TINY, out_indices=range(len(widths)), use_depthwise=arch == 'P6').eval()
    out = model(torch.randn(1, 3, 128, 64))
    assert [tuple(o.shape) for o in out] == [(1, w, 64 >> i, 32 >> i) for i, w in enumerate(widths)]


def test_frozen_stages_stay_as_they_are():
    model = CSPDarknet(**TINY, frozen_stages=1).train()
    assert not any(p.requires_grad for m in (model.stem, model.stage1) for p in m.parameters())
    assert all(p.requires_grad for p in model.stage2.parameters())
    assert not model.stem.conv.bn.training and model.stage2[0].bn.training


@pytest.mark.parametrize('options, told', [
    ({'arch': 'P7'}, "arch is 'P7'"), ({'out_indices': (5,)}, 'out_indices'), ({'frozen_stages': 9}, 'frozen_stages')])
def test_what_cannot_be_built_is_told(options, told):
    with pytest.raises(ConfigError, match=f'CSPDarknet: {told}'):
        CSPDarknet(**{**TINY, **options})


def test_pyramid_keeps_sizes_and_evens_channels():
    neck = NECKS.build({'type': 'YOLOXPAFPN', 'in_channels': [8, 16, 32], 'out_channels': 12, 'num_csp_blocks': 1})
    feats = [torch.randn(2, c, s, s) for c, s in ((8, 16), (16, 8), (32, 4))]
    assert [tuple(o.shape) for o in neck(feats)] == [(2, 12, 16, 16), (2, 12, 8, 8), (2, 12, 4, 4)]
    with pytest.raises(ConfigError, match='YOLOXPAFPN: the backbone gives 2 levels'):
        neck(feats[:2])

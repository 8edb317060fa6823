"""VGG, SSDVGG, MobileNetV2 and timm's models: what is frozen, what comes out, what is refused.

That VGG and MobileNetV2 compute what torchvision's do is held in tests/checkpoints/test_pretrained.py.
"""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from omnidet.errors import ConfigError
from omnidet.models.backbones.mobilenet_v2 import MobileNetV2, multiple_of_8
from omnidet.models.backbones.timm_backbone import TIMMBackbone
from omnidet.models.backbones.vgg import SSDVGG, VGG


def norms_training(module: nn.Module) -> int:
    return sum(m.training for m in module.modules() if isinstance(m, nn.BatchNorm2d))


def trained(module: nn.Module) -> set[str]:
    return {k.split('.')[0] for k, p in module.named_parameters() if p.requires_grad}


@pytest.mark.parametrize('factor', [0.25, 0.5, 1.0, 1.4])
def test_mobilenet_v2_gives_the_papers_levels(factor):
    with torch.device('meta'):
        net = MobileNetV2(widen_factor=factor, out_indices=range(8))
        out = net(torch.empty(1, 3, 96, 64))
    widths = [multiple_of_8(c * factor) for c in (16, 24, 32, 64, 96, 160, 320)] + [int(1280 * max(factor, 1))]
    strides = [2, 4, 8, 16, 16, 32, 32, 32]
    assert [tuple(o.shape[1:]) for o in out] == [(c, 96 // s, 64 // s) for c, s in zip(widths, strides)]


@pytest.mark.parametrize('channels, nearest', [(32, 32), (3.2, 8), (11, 16), (12, 16), (16.8, 16), (44.8, 48),
                                               (134.4, 136)])
def test_widths_are_multiples_of_8_that_lose_at_most_a_tenth(channels, nearest):
    assert multiple_of_8(channels) == nearest


def test_mobilenet_v2_freezes_the_first_stages():
    net = MobileNetV2(frozen_stages=2).train()
    assert trained(net) == {*(f'layer{i}' for i in range(3, 8)), 'conv2'}
    assert norms_training(net.layer2) == norms_training(net.conv1) == 0 and norms_training(net.layer3) > 0
    assert trained(MobileNetV2()) == {'conv1', *(f'layer{i}' for i in range(1, 8)), 'conv2'}
    net = MobileNetV2(norm_eval=True).train()
    assert norms_training(net) == 0 and net.training


def test_checkpointing_changes_no_gradient():
    torch.manual_seed(0)
    plain, saving = MobileNetV2(widen_factor=0.25, norm_eval=True), MobileNetV2(widen_factor=0.25, norm_eval=True,
                                                                                 with_cp=True)
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 32, 32)
    for net in (plain, saving):
        net.train()
        net(x)[-1].square().sum().backward()
    for a, b in zip(plain.parameters(), saving.parameters()):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize('args', [{'out_indices': (1, 8)}, {'frozen_stages': 8}])
def test_mobilenet_v2_has_levels_0_to_7(args):
    with pytest.raises(ConfigError, match='must lie in'):
        MobileNetV2(**args)


def test_vgg_freezes_stages_and_norms():
    net = VGG(11, with_bn=True, frozen_stages=2, bn_frozen=True).train()
    frozen = [k for k, p in net.named_parameters() if not p.requires_grad]
    ends = net.ends
    assert ends == [0, 4, 8, 15, 22, 29]
    assert set(frozen) == {k for k, _ in net.named_parameters() if int(k.split('.')[1]) < ends[2]
                           or isinstance(net.features[int(k.split('.')[1])], nn.BatchNorm2d)}
    assert norms_training(net) == 0
    assert norms_training(VGG(11, with_bn=True, bn_eval=False).train()) == 8


def test_vgg_keeps_odd_rows_and_the_last_pooling_as_asked():
    x = torch.randn(1, 3, 50, 50)
    with torch.no_grad():
        assert [o.shape[-1] for o in VGG(11)(x)] == [25, 12, 6, 3, 1]
        assert [o.shape[-1] for o in VGG(11, ceil_mode=True)(x)] == [25, 13, 7, 4, 2]
        assert [o.shape[-1] for o in VGG(11, with_last_pool=False, out_indices=(3, 4))(x)] == [3, 3]
        assert [o.shape[-1] for o in VGG(11, num_stages=2, out_indices=(1,))(x)] == [12]


@pytest.mark.parametrize('args', [{'depth': 12}, {'depth': 16, 'num_stages': 3}, {'depth': 16, 'num_stages': 6},
                                  {'depth': 16, 'dilations': (1, 1)}])
def test_vgg_refuses_stages_that_there_are_not(args):
    with pytest.raises(ConfigError, match='VGG'):
        VGG(**args)


def test_ssd_vgg_gives_the_papers_levels():
    with torch.device('meta'):
        out = SSDVGG(16)(torch.empty(1, 3, 300, 300))
    assert [tuple(o.shape[1:]) for o in out] == [(512, 38, 38), (1024, 19, 19)]    # conv4_3 and fc7
    with pytest.raises(ConfigError, match='out_feature_indices'), torch.device('meta'):
        SSDVGG(16, out_feature_indices=(22, 35))


def test_timm_models_give_their_levels_under_their_own_names():
    timm = pytest.importorskip('timm')
    torch.manual_seed(0)
    net = TIMMBackbone('resnet10t', features_only=True, out_indices=(1, 3)).eval()
    theirs = timm.create_model('resnet10t', features_only=True, out_indices=(1, 3)).eval()
    assert all(k.startswith('timm_model.') for k in net.state_dict())
    net.load_state_dict(net.convert_names(theirs.state_dict()))
    assert list(net.convert_names(net.state_dict())) == list(net.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(net(x), theirs(x), strict=True):
            assert torch.equal(a, b)
        last, = TIMMBackbone('resnet10t')(x)
    assert last.shape == (1, 512, 2, 2)    # neither pooled nor classified


def test_timm_backbones_are_checked():
    pytest.importorskip('timm')
    with pytest.raises(ConfigError, match='not for a config to say'):
        TIMMBackbone('resnet10t', pretrained_cfg=dict(url='https://example.invalid/a.pth'))
    with pytest.raises(ConfigError, match="no model 'resnet10tt'; did you mean 'resnet10t'"):
        TIMMBackbone('resnet10tt')
    with pytest.raises(ConfigError, match='does not take these arguments'):
        TIMMBackbone('resnet10t', colour='red')


def test_a_missing_timm_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ConfigError, match='pip install timm'):
        TIMMBackbone('resnet10t')

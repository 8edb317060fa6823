"""ConvNeXt against timm's with the same weights."""

from __future__ import annotations

import pytest
import torch

from omnidet.errors import ConfigError
from omnidet.models.backbones.convnext import ConvNeXt

SMALL = dict(arch=dict(depths=(2, 1), channels=(8, 16)), out_indices=(0, 1), gap_before_final_norm=False)
DEPTHS, CHANNELS = (1, 2, 1, 1), (8, 12, 16, 20)
NAMES = {'depthwise_conv': 'conv_dw', 'pointwise_conv1': 'mlp.fc1', 'pointwise_conv2': 'mlp.fc2', 'grn': 'mlp.grn'}


def theirs_named(name):
    """timm's name for one of ours; its stages hold the downsampling that leads to them."""
    part, i, *rest = name.split('.')
    if part == 'downsample_layers':
        return '.'.join(['stem', *rest] if i == '0' else [f'stages.{i}.downsample', *rest])
    rest = [NAMES.get(r, r) for r in rest]
    return '.'.join([f'stages.{i}.blocks', *rest])


@pytest.mark.parametrize('linear', [True, False])
@pytest.mark.parametrize('grn', [False, True])
@torch.no_grad()
def test_features_equal_timms(linear, grn):
    timm = pytest.importorskip('timm.models.convnext')
    torch.manual_seed(0)
    theirs = timm.ConvNeXt(depths=DEPTHS, dims=CHANNELS, num_classes=0, use_grn=grn,
                           ls_init_value=None if grn else 1.0).eval()
    for p in theirs.parameters():
        p.copy_(torch.randn_like(p) * 0.3)
    ours = ConvNeXt(arch=dict(depths=DEPTHS, channels=CHANNELS), out_indices=(0, 1, 2, -1), gap_before_final_norm=False,
                    use_grn=grn, layer_scale_init_value=0.0 if grn else 1.0, linear_pw_conv=linear).eval()
    state, named = theirs.state_dict(), {k: v for k, v in ours.state_dict().items() if not k.startswith('norm')}
    for k in named:
        name = theirs_named(k)
        if name not in state and 'grn' in name:
            name = name.replace('gamma', 'weight').replace('beta', 'bias')
        named[k].copy_(state[name].reshape(named[k].shape))
    x = torch.randn(2, 3, 66, 97)
    want = theirs.forward_intermediates(x, indices=[0, 1, 2, 3], intermediates_only=True)
    for i, (got, their) in enumerate(zip(ours(x), want, strict=True)):
        torch.testing.assert_close(got, getattr(ours, f'norm{i}')(their), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_mean_of_a_map_is_normalised_for_classifying():
    maps, means = (ConvNeXt(**{**SMALL, 'gap_before_final_norm': gap}).eval() for gap in (False, True))
    means.load_state_dict(maps.state_dict())
    for norm in (maps.norm0, maps.norm1):
        norm.forward = lambda x: x
    x = torch.randn(1, 3, 32, 32)
    for m, norm, mean in zip(maps(x), (means.norm0, means.norm1), means(x)):
        torch.testing.assert_close(mean, norm(m.mean((2, 3), keepdim=True)).flatten(1))


def test_frozen_stages_get_no_gradient():
    model = ConvNeXt(**SMALL, frozen_stages=1, drop_path_rate=0.5).train()
    assert {k.split('.')[0] + k.split('.')[1] for k, p in model.named_parameters() if not p.requires_grad} == \
        {'downsample_layers0', 'stages0'}
    assert not model.stages[0].training and model.stages[1].training


def test_recomputing_changes_neither_features_nor_gradients():
    models = [ConvNeXt(**SMALL, layer_scale_init_value=1.0, with_cp=with_cp).train() for with_cp in (False, True)]
    models[1].load_state_dict(models[0].state_dict())
    x = torch.randn(1, 3, 32, 32)
    for m in models:
        sum(f.square().mean() for f in m(x)).backward()
    for a, b in zip(models[0].parameters(), models[1].parameters()):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize('options, message', [
    (dict(arch='tini'), "did you mean 'tiny'"), (dict(arch=dict(depths=[1])), 'depths and channels'),
    (dict(SMALL, out_indices=(2,)), '2 stages'), (dict(SMALL, frozen_stages=3), '2 stages')])
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ConvNeXt(**options)

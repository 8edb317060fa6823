"""The ResNet family: the same as torchvision's and timm's for equal weights, and what each argument changes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from omnidet.errors import ConfigError
from omnidet.nn.deform_conv import DeformConv2dPack, ModulatedDeformConv2dPack
from omnidet.nn.resnet_layers import BasicBlock, Bottleneck, make_res_layer
from omnidet.registry import BACKBONES

GCB = {'type': 'ContextBlock', 'ratio': 1 / 4}


def build(kind='ResNet', **options):
    return BACKBONES.build({'type': kind, **options})


def small(**options):
    """A ResNet-50 that is thin."""
    torch.manual_seed(0)
    return build(**{'depth': 50, 'base_channels': 8, 'zero_init_residual': False, **options})


def unsettle(model):
    """Give every batch norm statistics and weights that matter."""
    torch.manual_seed(0)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            for value, low, high in ((m.running_mean, -.3, .3), (m.running_var, .5, 2), (m.weight, .5, 1.5),
                                     (m.bias, -.3, .3)):
                nn.init.uniform_(value, low, high)
    return model.eval()


@pytest.mark.parametrize(('kind', 'options', 'published', 'width'), [
    ('ResNet', {'depth': 18}, 11689512, 512), ('ResNet', {'depth': 34}, 21797672, 512),
    ('ResNet', {'depth': 50}, 25557032, 2048), ('ResNet', {'depth': 101}, 44549160, 2048),
    ('ResNet', {'depth': 152}, 60192808, 2048),
    ('ResNeXt', {'depth': 50, 'groups': 32, 'base_width': 4}, 25028904, 2048),
    ('ResNeXt', {'depth': 101, 'groups': 32, 'base_width': 8}, 88791336, 2048),
    ('ResNeXt', {'depth': 101, 'groups': 64, 'base_width': 4}, 83455272, 2048),
    # ResNet-50 with a stem of 28,512 + 256 parameters in place of 9,408 + 128
    ('ResNetV1d', {'depth': 50}, 25557032 + 28768 - 9536, 2048)])
def test_there_are_as_many_parameters_as_published(kind, options, published, width):
    with torch.device('meta'):
        model = build(kind, **options)
    assert sum(p.numel() for p in model.parameters()) == published - (width + 1) * 1000    # the classifier's


@pytest.mark.parametrize(('kind', 'options', 'name'), [
    ('ResNet', {'depth': 18}, 'resnet18'), ('ResNet', {'depth': 50}, 'resnet50'),
    ('ResNeXt', {'depth': 50, 'groups': 32, 'base_width': 4}, 'resnext50_32x4d')])
@torch.no_grad()
def test_equal_weights_give_what_torchvision_gives(kind, options, name):
    theirs = unsettle(getattr(torchvision.models, name)())
    ours = build(kind, **options).eval()
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.startswith('fc.')})
    x = torch.randn(1, 3, 50, 71)
    got, want = ours(x), theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
    for i in range(4):
        want = getattr(theirs, f'layer{i + 1}')(want)
        torch.testing.assert_close(got[i], want, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_equal_weights_give_what_timms_resnet_d_gives():
    timm = pytest.importorskip('timm')
    theirs = unsettle(timm.create_model('resnet50d', features_only=True, out_indices=(1, 2, 3, 4)))
    names = {'conv1.0': 'stem.0', 'conv1.1': 'stem.1', 'conv1.3': 'stem.3', 'conv1.4': 'stem.4', 'conv1.6': 'stem.6',
             'bn1': 'stem.7'}
    state = {}
    for key, value in theirs.state_dict().items():
        old = next((n for n in names if key.startswith(n + '.')), None)
        state[key if old is None else names[old] + key[len(old):]] = value
    ours = build('ResNetV1d', depth=50).eval()
    ours.load_state_dict(state)
    x = torch.randn(1, 3, 64, 96)    # every stage halves evenly
    for got, want in zip(ours(x), theirs(x), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_means_in_shortcuts_leave_out_what_lies_beyond_the_border():
    layer = make_res_layer(BasicBlock, 2, 2, 1, stride=2, avg_down=True)
    layer.eval()
    for m in (layer[0].bn2, layer[0].downsample[2].weight):
        nn.init.zeros_(m.weight) if isinstance(m, nn.BatchNorm2d) else nn.init.ones_(m)
    nn.init.dirac_(layer[0].downsample[1].weight)
    x = torch.rand(1, 2, 5, 5)
    want = torch.stack([x[0, :, 2 * i:2 * i + 2, 2 * j:2 * j + 2].mean((1, 2)) for i in range(3) for j in range(3)], 1)
    torch.testing.assert_close(layer(x)[0].flatten(1), want / (1 + 1e-5) ** 0.5)


def test_levels_have_the_strides_and_widths_of_their_stages():
    shapes = [tuple(f.shape) for f in small()(torch.randn(1, 3, 64, 96))]
    assert shapes == [(1, 32, 16, 24), (1, 64, 8, 12), (1, 128, 4, 6), (1, 256, 2, 3)]
    dilated = small(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), out_indices=(1, 3), stem_channels=6, in_channels=4)
    assert [tuple(f.shape) for f in dilated(torch.randn(1, 4, 64, 96))] == [(1, 64, 8, 12), (1, 256, 8, 12)]
    assert dilated.layer4[2].conv2.dilation == (4, 4) and dilated.conv1.out_channels == 6
    three = small(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
    assert not hasattr(three, 'layer4') and three(torch.randn(1, 3, 32, 32))[0].shape == (1, 128, 2, 2)


@pytest.mark.parametrize(('style', 'first', 'second'), [('pytorch', 1, 2), ('caffe', 2, 1)])
def test_the_style_says_which_convolution_strides(style, first, second):
    block = small(style=style).layer2[0]
    assert (block.conv1.stride[0], block.conv2.stride[0]) == (first, second)


def test_group_norms_are_named_as_checkpoints_name_them():
    model = small(norm_cfg={'type': 'GN', 'num_groups': 4}, conv_cfg={'type': 'ConvWS'})
    names = set(model.state_dict())
    assert {'gn1.weight', 'layer1.0.gn3.bias', 'layer1.0.downsample.1.weight'} <= names
    assert not any('bn' in name for name in names)
    assert model(torch.randn(1, 3, 32, 32))[3].isfinite().all()


@pytest.mark.parametrize('kind', ['ResNet', 'ResNetV1d'])
@pytest.mark.parametrize('frozen', range(-1, 5))
def test_frozen_stages_do_not_train(kind, frozen):
    model = build(kind, depth=18, base_channels=8, frozen_stages=frozen, norm_eval=False).train()
    stem = ['stem'] if kind == 'ResNetV1d' else ['conv1', 'bn1']
    stages = {**dict.fromkeys(stem, 0), **{f'layer{i}': i for i in range(1, 5)}}
    for name, p in model.named_parameters():
        assert p.requires_grad == (stages[name.split('.')[0]] > frozen), name
    for name, m in model.named_modules():
        if isinstance(m, _BatchNorm):
            assert m.training == (stages[name.split('.')[0]] > frozen), name
    before = {k: v.clone() for k, v in model.state_dict().items() if 'running' in k}
    model(torch.randn(2, 3, 64, 64))
    for k, v in before.items():
        assert torch.equal(v, model.state_dict()[k]) == (stages[k.split('.')[0]] <= frozen), k


def test_norm_eval_keeps_statistics_but_trains_weights():
    model = small(norm_eval=True).train()
    assert model.training and not any(m.training for m in model.modules() if isinstance(m, _BatchNorm))
    assert all(p.requires_grad for p in model.parameters())
    assert all(m.training for m in small(norm_eval=False).train().modules())


@pytest.mark.parametrize('norm_eval', [True, False])
def test_computing_blocks_again_changes_neither_gradients_nor_statistics(norm_eval):
    x, got = torch.randn(2, 3, 32, 32), []
    for with_cp in (True, False):
        model = small(with_cp=with_cp, norm_eval=norm_eval, frozen_stages=1).train()
        sum(f.square().mean() for f in model(x)).backward()
        got.append(({k: p.grad for k, p in model.named_parameters() if p.requires_grad}, model.state_dict()))
    (grads, state), (want_grads, want_state) = got
    assert grads.keys() == want_grads.keys() and any('layer4' in k for k in grads)
    for k, want in want_grads.items():
        torch.testing.assert_close(grads[k], want)
    for k, want in want_state.items():
        torch.testing.assert_close(state[k], want)


def test_computing_again_keeps_less_for_the_backward_pass():
    def kept(with_cp):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            small(with_cp=with_cp).train()(torch.randn(1, 3, 64, 64))
        return sum(sizes)
    assert kept(True) < 0.5 * kept(False)


@pytest.mark.parametrize(('dcn', 'cls'), [({'type': 'DCN', 'deform_groups': 1}, DeformConv2dPack),
                                          ({'type': 'DCNv2', 'deform_groups': 2}, ModulatedDeformConv2dPack)])
def test_deformable_convolutions_stand_where_the_config_says(dcn, cls):
    model = small(dcn={**dcn, 'fallback_on_stride': False}, stage_with_dcn=(False, True, False, True))
    for i in range(1, 5):
        for block in getattr(model, f'layer{i}'):
            assert type(block.conv2) is (cls if i in (2, 4) else nn.Conv2d)
    assert not any(p.any() for k, p in model.named_parameters() if 'conv_offset' in k)    # not Kaiming's draw
    plain = small(dcn={**dcn, 'fallback_on_stride': True}, stage_with_dcn=(False, True, False, True))
    assert not any(isinstance(m, DeformConv2dPack) for m in plain.modules())


def test_deformable_convolutions_are_grouped_in_resnext():
    model = build('ResNeXt', depth=50, groups=4, base_width=4, base_channels=16, dcn={'type': 'DCN'},
                  stage_with_dcn=(False, False, False, True))
    assert model.layer4[0].conv2.weight.shape == (128, 32, 3, 3)    # 4 groups of 128 * 4 / 16
    assert model(torch.randn(2, 3, 32, 32))[3].isfinite().all()


def test_plugins_stand_behind_the_convolutions_they_name():
    conv = {'type': 'ConvModule', 'out_channels': 64, 'kernel_size': 1, 'postfix': 2}
    model = small(plugins=[
        {'cfg': GCB, 'stages': (False, True, False, True), 'position': 'after_conv3'},
        {'cfg': {**GCB, 'postfix': '_1'}, 'position': 'after_conv1'},
        {'cfg': conv, 'stages': (False, False, False, True), 'position': 'after_conv2'}])
    block, calls = model.layer4[1], []
    for name, m in block.named_children():
        m.register_forward_hook(lambda m, args, out, name=name: calls.append(name))
    model(torch.randn(1, 3, 64, 64))
    assert calls == ['conv1', 'bn1', 'relu', 'context_block_1', 'conv2', 'bn2', 'relu', 'conv_block2', 'conv3', 'bn3',
                     'context_block', 'relu']
    assert block.context_block.conv_mask.in_channels == 256 and block.context_block_1.conv_mask.in_channels == 64
    assert not hasattr(model.layer1[0], 'context_block') and hasattr(model.layer1[0], 'context_block_1')


def test_plugins_behind_the_last_convolution_pass_gradients():
    conv = {'type': 'ConvModule', 'out_channels': 32, 'kernel_size': 1}    # its ReLU needs its own output
    model = small(plugins=[{'cfg': conv, 'stages': (True, False, False, False), 'position': 'after_conv3'}])
    model(torch.randn(2, 3, 32, 32))[3].sum().backward()
    assert model.layer1[0].conv_block.conv.weight.grad.any()


def test_blocks_begin_as_the_identity_with_kaimings_weights():
    model = build(depth=50)
    weight = model.layer3[0].conv2.weight
    assert abs(weight.std().item() / (2 / (256 * 9)) ** 0.5 - 1) < 0.02 and abs(weight.mean().item()) < 1e-3
    assert (model.bn1.weight == 1).all() and not model.bn1.bias.any()
    assert not any(block.bn3.weight.any() for block in model.layer2)
    x = torch.randn(1, 256, 4, 4)
    assert torch.equal(model.eval().layer1[1](x), F.relu(x))
    assert (build(depth=18, zero_init_residual=False).layer1[0].bn2.weight == 1).all()
    assert not build(depth=18).layer1[0].bn2.weight.any()


def test_plugins_keep_their_own_beginning():
    model = small(plugins=[{'cfg': GCB, 'position': 'after_conv3'}])
    assert not model.layer1[0].context_block.channel_add_conv[3].weight.any()


def test_initial_values_may_be_asked_for():
    model = small(init_cfg=[{'type': 'Constant', 'layer': 'Conv2d', 'val': 0.25},
                            {'type': 'Pretrained', 'checkpoint': 'x'}])
    assert (model.layer4[0].conv2.weight == 0.25).all()
    assert build(depth=18, pretrained='torchvision://resnet18').bn1.weight.all()    # read by build_model alone


@pytest.mark.parametrize('downsample_first', [True, False])
def test_a_stage_changes_the_shape_in_its_first_block_or_its_last(downsample_first):
    layer = make_res_layer(Bottleneck, 16, 8, 3, stride=2, downsample_first=downsample_first)
    assert [block.downsample is not None for block in layer] == [downsample_first, False, not downsample_first]
    assert layer(torch.randn(1, 16, 8, 8)).shape == (1, 32, 4, 4)


@pytest.mark.parametrize(('kind', 'options', 'says'), [
    ('ResNet', {'depth': 20}, 'depth is 20; allowed are 18, 34, 50, 101, 152'),
    ('ResNeXt', {'depth': 18}, 'depth is 18; allowed are 50, 101, 152'),
    ('ResNet', {'depth': 50, 'out_indices': (0, 4)}, r'ResNet: out_indices \(0, 4\) must lie in 0 to 3'),
    ('ResNet', {'depth': 50, 'out_indices': ()}, 'out_indices'),
    ('ResNetV1d', {'depth': 50, 'frozen_stages': 5}, 'ResNetV1d: frozen_stages is 5'),
    ('ResNet', {'depth': 50, 'num_stages': 5}, 'num_stages is 5; allowed are 1 to 4'),
    ('ResNet', {'depth': 50, 'num_stages': 3}, 'strides has 4 entries for 3 stages'),
    ('ResNet', {'depth': 50, 'dilations': (1, 1)}, 'dilations has 2 entries for 4 stages'),
    ('ResNet', {'depth': 50, 'style': 'torch'}, "style is 'torch'"),
    ('ResNet', {'depth': 50, 'dcn': {'type': 'DCN'}, 'stage_with_dcn': (True,)}, 'stage_with_dcn has 1'),
    ('ResNet', {'depth': 50, 'dcn': {'type': 'DCN'}, 'stage_with_dcn': (True,) * 4, 'conv_cfg': {'type': 'ConvWS'}},
     'not both'),
    ('ResNet', {'depth': 18, 'dcn': {'type': 'DCN'}, 'stage_with_dcn': (True,) * 4}, 'ResNet-18 and 34'),
    ('ResNet', {'depth': 18, 'plugins': [{'cfg': GCB, 'position': 'after_conv1'}]}, 'ResNet-18 and 34'),
    ('ResNet', {'depth': 50, 'plugins': [{'cfg': GCB, 'position': 'after_conv4'}]}, 'after_conv1, after_conv2'),
    ('ResNet', {'depth': 50, 'plugins': [{'cfg': GCB, 'position': 'after_conv1', 'stages': (True,)}]}, '1 entries'),
    ('ResNet', {'depth': 50, 'plugins': [{'cfg': GCB, 'position': 'after_conv1'}] * 2}, "called 'context_block'"),
    ('ResNet', {'depth': 50, 'plugins': [{'cfg': {'type': 'ContextBlok'}, 'position': 'after_conv1'}]},
     "no plugin 'ContextBlok'; did you mean 'ContextBlock'"),
    ('ResNet', {'depth': 50, 'pretrained': 'a', 'init_cfg': {'type': 'Pretrained', 'checkpoint': 'b'}}, 'both given'),
    ('ResNet', {'depth': 50, 'frozen_stage': 1}, "did you mean 'frozen_stages'")])
def test_wrong_arguments_are_told(kind, options, says):
    with torch.device('meta'), pytest.raises(ConfigError, match=says):
        build(kind, **options)


def test_configs_stay_as_they_are():
    dcn = {'type': 'DCN', 'fallback_on_stride': False}
    plugins = [{'cfg': {**GCB, 'postfix': 1}, 'position': 'after_conv3'}]
    with torch.device('meta'):
        build(depth=50, dcn=dcn, stage_with_dcn=(True,) * 4, plugins=plugins)
    assert dcn == {'type': 'DCN', 'fallback_on_stride': False}
    assert plugins == [{'cfg': {**GCB, 'postfix': 1}, 'position': 'after_conv3'}]


def test_a_backbone_compiles_to_one_graph():
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph
    model, x = build(depth=18, base_channels=8).eval(), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        got = torch.compile(model, backend=count, fullgraph=True)(x)
        torch.testing.assert_close(got, model(x))
    assert len(graphs) == 1

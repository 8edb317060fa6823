"""Plugins of residual blocks, against loops over pixels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from omnidet.errors import ConfigError
from omnidet.registry import PLUGINS


def plugin(kind, in_channels, **options):
    """A plugin with weights that matter."""
    torch.manual_seed(0)
    m = PLUGINS.build({'type': kind, 'in_channels': in_channels, **options})
    for p in m.parameters():
        nn.init.normal_(p, std=0.5)
    return m


def pointwise(conv, v):
    """A 1 x 1 convolution of one pixel's channels."""
    return conv.weight[:, :, 0, 0] @ v + (0 if conv.bias is None else conv.bias)


def attend(m, x, terms, kv_stride, q_stride=1, see=lambda dy, dx: True):
    """arXiv:1904.05873, equations 1 to 3, one query at a time; returns what is added to the queries, before gamma."""
    heads, C = m.num_heads, x.shape[0]
    d, D = C // heads, C
    content, content_at, key_only, position_only = terms

    def encode(delta):
        angle = torch.tensor([delta / 1000 ** (4 * k / D) for k in range(D // 4)])
        return torch.cat([angle.sin(), angle.cos()])
    queries = [(y, z) for y in range(0, x.shape[1], q_stride) for z in range(0, x.shape[2], q_stride)]
    keys = [(y, z) for y in range(0, x.shape[1], kv_stride) for z in range(0, x.shape[2], kv_stride)]
    out = []
    for qy, qx in queries:
        parts = []
        for h in range(heads):
            at = slice(h * d, h * d + d)
            energy, values = [], []
            for ky, kx in keys:
                e = torch.tensor(0.0) if see(ky - qy, kx - qx) else torch.tensor(-math.inf)
                query = pointwise(m.query_conv, x[:, qy, qx])[at] if content or content_at else None
                key = pointwise(m.key_conv, x[:, ky, kx])[at] if content or key_only else None
                if content_at or position_only:
                    place = (m.appr_geom_fc_x.weight @ encode(qx - kx) + m.appr_geom_fc_y.weight @ encode(qy - ky))[at]
                    place = place / math.sqrt(2)
                e = e + (query @ key if content else 0) + (query @ place if content_at else 0)
                e = e + (m.appr_bias[at] @ key if key_only else 0) + (m.geom_bias[at] @ place if position_only else 0)
                energy.append(e)
                values.append(pointwise(m.value_conv, x[:, ky, kx])[at])
            parts.append(torch.stack(energy).softmax(0) @ torch.stack(values))
        out.append(pointwise(m.proj_conv, torch.cat(parts)))
    return torch.stack(out, 1).view(C, len(range(0, x.shape[1], q_stride)), -1)


@pytest.mark.parametrize('kind', ['1111', '0010', '1000', '0100', '0001', '1010', '0101'])
@pytest.mark.parametrize('kv_stride', [1, 2])
@torch.no_grad()
def test_attention_sums_the_terms_that_its_type_names(kind, kv_stride):
    m = plugin('GeneralizedAttention', 8, num_heads=2, kv_stride=kv_stride, attention_type=kind)
    x = torch.randn(2, 8, 3, 4)
    for got, image in zip(m(x), x, strict=True):
        want = image + m.gamma * attend(m, image, [c == '1' for c in kind], kv_stride)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind', ['1111', '0010'])
@torch.no_grad()
def test_attention_may_see_its_surroundings_alone(kind):
    m = plugin('GeneralizedAttention', 4, num_heads=1, kv_stride=1, attention_type=kind, spatial_range=1)
    x = torch.randn(1, 4, 4, 5)
    want = attend(m, x[0], [c == '1' for c in kind], 1, see=lambda dy, dx: max(abs(dy), abs(dx)) <= 1)
    torch.testing.assert_close(m(x)[0], x[0] + m.gamma * want, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_attention_of_every_other_query_is_resized():
    m = plugin('GeneralizedAttention', 4, num_heads=1, kv_stride=1, q_stride=2, attention_type='1111')
    x = torch.randn(1, 4, 4, 6)
    want = nn.functional.interpolate(attend(m, x[0], [True] * 4, 1, q_stride=2)[None], (4, 6), mode='bilinear')
    torch.testing.assert_close(m(x), x + m.gamma * want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('kind', 'names'), [
    ('0010', {'key_conv.weight', 'value_conv.weight', 'appr_bias'}),
    ('1000', {'query_conv.weight', 'key_conv.weight', 'value_conv.weight'}),
    ('0001', {'value_conv.weight', 'appr_geom_fc_x.weight', 'appr_geom_fc_y.weight', 'geom_bias'})])
def test_attention_has_the_parameters_of_its_terms(kind, names):
    m = plugin('GeneralizedAttention', 8, num_heads=2, attention_type=kind)
    assert set(m.state_dict()) == names | {'gamma', 'proj_conv.weight', 'proj_conv.bias'}


@pytest.mark.parametrize('pooling', ['att', 'avg'])
@pytest.mark.parametrize('fusion', [('channel_add',), ('channel_mul',), ['channel_mul', 'channel_add']])
@torch.no_grad()
def test_context_joins_every_pixel(pooling, fusion):
    m, x = plugin('ContextBlock', 8, ratio=1 / 4, pooling_type=pooling, fusion_types=fusion), torch.randn(2, 8, 3, 4)
    for got, image in zip(m(x), x, strict=True):
        pixels = image.flatten(1).T
        weights = torch.stack([pointwise(m.conv_mask, p) for p in pixels]).softmax(0) if pooling == 'att' else 1 / 12
        context = (weights * pixels).sum(0)

        def transform(branch, context=context):
            v = pointwise(branch[0], context)
            v = (v - v.mean()) / (v.var(unbiased=False) + 1e-5).sqrt() * branch[1].weight.flatten() \
                + branch[1].bias.flatten()
            return pointwise(branch[3], v.clamp(min=0))[:, None, None]
        want = image * transform(m.channel_mul_conv).sigmoid() if 'channel_mul' in fusion else image
        want = want + transform(m.channel_add_conv) if 'channel_add' in fusion else want
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('mode', ['embedded_gaussian', 'gaussian', 'dot_product', 'concatenation'])
@pytest.mark.parametrize('options', [{}, {'reduction': 1, 'use_scale': False}])
@torch.no_grad()
def test_non_local_blocks_are_the_sums_of_their_paper(mode, options):
    m, x = plugin('NonLocal2d', 4, mode=mode, **options), torch.randn(1, 4, 3, 2)
    pixels = x[0].flatten(1).T
    g = torch.stack([pointwise(m.g.conv, p) for p in pixels])
    theta, phi = (pixels if mode == 'gaussian' else torch.stack([pointwise(c.conv, p) for p in pixels])
                  for c in (m.theta, m.phi))
    for i, pixel in enumerate(pixels):
        if mode == 'concatenation':
            f = torch.stack([m.concat_project.conv.weight.flatten() @ torch.cat([theta[i], p]) for p in phi]).clamp(0)
        else:
            f = torch.stack([theta[i] @ p for p in phi])
        if mode == 'embedded_gaussian' and options.get('use_scale', True):
            f = f / math.sqrt(theta.shape[1])
        f = f.exp() / f.exp().sum() if 'gaussian' in mode else f / len(pixels)
        want = pixel + pointwise(m.conv_out.conv, f @ g)
        torch.testing.assert_close(m(x)[0].flatten(1)[:, i], want, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_non_local_keys_may_be_the_largest_of_four_pixels():
    m, x = plugin('NonLocal2d', 4, sub_sample=True), torch.randn(1, 4, 4, 6)
    whole = plugin('NonLocal2d', 4)
    assert set(m.state_dict()) == {k.replace('g.conv', 'g.0.conv').replace('phi.conv', 'phi.0.conv')
                                   for k in whole.state_dict()}
    g, phi = (nn.functional.max_pool2d(c[0](x), 2).flatten(2)[0] for c in (m.g, m.phi))
    weights = (m.theta(x).flatten(2)[0].T @ phi / math.sqrt(2)).softmax(1)
    want = x[0] + m.conv_out((g @ weights.T).view(1, 2, 4, 6))[0]
    torch.testing.assert_close(m(x)[0], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('kind', 'options'), [
    ('GeneralizedAttention', {'num_heads': 2}), ('ContextBlock', {'ratio': 0.25}), ('NonLocal2d', {}),
    ('NonLocal2d', {'norm_cfg': {'type': 'BN'}})])
def test_plugins_begin_as_the_identity(kind, options):
    m, x = PLUGINS.build({'type': kind, 'in_channels': 8, **options}), torch.randn(1, 8, 4, 4)
    assert torch.equal(m(x), x)


@pytest.mark.parametrize(('kind', 'options', 'says'), [
    ('GeneralizedAttention', {'attention_type': '11'}, 'attention_type'),
    ('GeneralizedAttention', {'attention_type': '0000'}, 'attention_type'),
    ('GeneralizedAttention', {'num_heads': 16}, 'do not go into 16 heads'),
    ('ContextBlock', {'ratio': 0.25, 'pooling_type': 'max'}, 'pooling_type'),
    ('ContextBlock', {'ratio': 0.25, 'fusion_types': ['add']}, 'fusion_types'),
    ('ContextBlock', {'ratio': 0.01}, 'leaves none'),
    ('NonLocal2d', {'mode': 'dot'}, 'mode')])
def test_wrong_arguments_are_told(kind, options, says):
    with pytest.raises(ConfigError, match=says):
        PLUGINS.build({'type': kind, 'in_channels': 8, **options})

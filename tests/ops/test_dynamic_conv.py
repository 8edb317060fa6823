"""Predicted networks against convolutions, one instance after another."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from omnidet.ops.dynamic_conv import dynamic_mask_logits, dynamic_sizes


def inputs(B=2, P=3, C=4, width=5, layers=3, h=6, w=7):
    torch.manual_seed(0)
    sizes = dynamic_sizes(C, width, layers)
    params = torch.randn(B, P, sum((i + 1) * o for i, o in sizes))
    return torch.randn(B, C, h, w), params, (torch.randn(B, P, w), torch.randn(B, P, h)), sizes


def by_convolutions(feats, params, coordinates, sizes):
    out = []
    for b in range(len(feats)):
        for p in range(params.shape[1]):
            x, y = (c[b, p] for c in coordinates)
            h, w = feats.shape[2:]
            z = torch.cat([x.expand(1, h, w), y[:, None].expand(1, h, w), feats[b]])[None]
            rest = params[b, p]
            weights = []
            for i, o in sizes:
                weights.append(rest[:i * o].view(o, i, 1, 1))
                rest = rest[i * o:]
            for n, ((_, o), weight) in enumerate(zip(sizes, weights, strict=True)):
                z = F.conv2d(z.relu() if n else z, weight, rest[:o])
                rest = rest[o:]
            assert not len(rest)
            out.append(z[0, 0])
    return torch.stack(out).view(*params.shape[:2], *feats.shape[2:])


def test_sizes_of_a_network_of_three_layers():
    assert dynamic_sizes(8, 8, 3) == [(10, 8), (8, 8), (8, 1)]
    assert sum((i + 1) * o for i, o in dynamic_sizes(8, 8, 3)) == 169    # CondInst, section 3.2


def test_logits_are_those_of_convolutions():
    for layers in (1, 2, 3):
        args = inputs(layers=layers)
        torch.testing.assert_close(dynamic_mask_logits(*args), by_convolutions(*args), rtol=1e-4, atol=1e-4)


def test_gradients_are_those_of_convolutions():
    feats, params, coordinates, sizes = inputs()
    grads = []
    for f in (dynamic_mask_logits, by_convolutions):
        leaves = [feats.clone().requires_grad_(), params.clone().requires_grad_()]
        f(*leaves, coordinates, sizes).square().mean().backward()
        grads.append([leaf.grad for leaf in leaves])
    for got, want in zip(*grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)


def test_flipped_features_and_positions_give_flipped_masks():
    feats, params, (x, y), sizes = inputs()
    got = dynamic_mask_logits(feats.flip(-1), params, (x.flip(-1), y), sizes)
    torch.testing.assert_close(got, dynamic_mask_logits(feats, params, (x, y), sizes).flip(-1))


def test_no_instance_gives_no_mask():
    feats, params, (x, y), sizes = inputs()
    assert dynamic_mask_logits(feats, params[:, :0], (x[:, :0], y[:, :0]), sizes).shape == (2, 0, 6, 7)

"""YOLOX as its paper and Megvii's names describe it, layer by layer, against ours with the same weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import omnidet
from omnidet.checkpoints import load_weights
from omnidet.checkpoints.megvii_yolox import convert_megvii_yolox
from omnidet.errors import CheckpointError


class Naive:
    """A model that makes its random weights under Megvii's names as it comes by.

    Args:
        depth, width: how many blocks and channels there are, in parts of YOLOX-l's.
        depthwise: split 3 x 3 convolutions, as nano does.
    """

    def __init__(self, depth, width, depthwise=False):
        self.depth, self.width, self.depthwise, self.state = depth, width, depthwise, {}

    def base(self, x, name, out, k=1, stride=1, groups=1):
        channels = x.shape[1] // groups
        state = {'conv.weight': torch.randn(out, channels, k, k) / (channels * k * k) ** 0.5,
                 'bn.weight': torch.rand(out) + 0.5, 'bn.bias': torch.randn(out) * 0.1,
                 'bn.running_mean': torch.randn(out) * 0.1, 'bn.running_var': torch.rand(out) + 0.5}
        self.state |= {f'{name}.{key}': value for key, value in state.items()}
        x = F.conv2d(x, state['conv.weight'], stride=stride, padding=k // 2, groups=groups)
        return F.silu(F.batch_norm(x, state['bn.running_mean'], state['bn.running_var'], state['bn.weight'],
                                   state['bn.bias'], eps=1e-3))

    def conv3(self, x, name, out, stride=1):
        if not self.depthwise:
            return self.base(x, name, out, 3, stride)
        return self.base(self.base(x, f'{name}.dconv', x.shape[1], 3, stride, x.shape[1]), f'{name}.pconv', out)

    def csp(self, x, name, out, n, shortcut):
        main, short = (self.base(x, f'{name}.conv{i}', out // 2) for i in (1, 2))
        for i in range(n):
            y = self.conv3(self.base(main, f'{name}.m.{i}.conv1', out // 2), f'{name}.m.{i}.conv2', out // 2)
            main = main + y if shortcut else y
        return self.base(torch.cat([main, short], 1), f'{name}.conv3', out)

    def trunk(self, x):
        n, c = round(3 * self.depth), int(64 * self.width)
        x = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
        x, maps = self.base(x, 'backbone.backbone.stem.conv', c, 3), []
        for i, blocks in ((2, n), (3, 3 * n), (4, 3 * n), (5, n)):
            name, c = f'backbone.backbone.dark{i}', 2 * c
            x = self.conv3(x, f'{name}.0', c, 2)
            if i == 5:
                x = self.base(x, f'{name}.1.conv1', c // 2)
                pooled = [F.max_pool2d(x, k, 1, k // 2) for k in (5, 9, 13)]
                x = self.base(torch.cat([x, *pooled], 1), f'{name}.1.conv2', c)
            x = self.csp(x, f'{name}.{2 if i == 5 else 1}', c, blocks, shortcut=i < 5)
            maps.append(x)
        return maps[1:]

    def __call__(self, x, K):
        """(B, 3, H, W) -> class, box and objectness logits of three levels."""
        n = round(3 * self.depth)
        x2, x1, x0 = self.trunk(x)
        c2, c1, c0 = (f.shape[1] for f in (x2, x1, x0))
        fpn0 = self.base(x0, 'backbone.lateral_conv0', c1)
        p4 = self.csp(torch.cat([F.interpolate(fpn0, scale_factor=2), x1], 1), 'backbone.C3_p4', c1, n, False)
        fpn1 = self.base(p4, 'backbone.reduce_conv1', c2)
        pan2 = self.csp(torch.cat([F.interpolate(fpn1, scale_factor=2), x2], 1), 'backbone.C3_p3', c2, n, False)
        down = self.conv3(pan2, 'backbone.bu_conv2', c2, 2)
        pan1 = self.csp(torch.cat([down, fpn1], 1), 'backbone.C3_n3', c1, n, False)
        down = self.conv3(pan1, 'backbone.bu_conv1', c1, 2)
        pan0 = self.csp(torch.cat([down, fpn0], 1), 'backbone.C3_n4', c0, n, False)
        width, out = int(256 * self.width), []
        for k, f in enumerate((pan2, pan1, pan0)):
            f = self.base(f, f'head.stems.{k}', width)
            towers = {}
            for kind in ('cls', 'reg'):
                towers[kind] = f
                for i in range(2):
                    towers[kind] = self.conv3(towers[kind], f'head.{kind}_convs.{k}.{i}', width)
            out.append([self.last(towers[tower], f'head.{kind}_preds.{k}', channels)
                        for kind, tower, channels in (('cls', 'cls', K), ('reg', 'reg', 4), ('obj', 'reg', 1))])
        return out

    def last(self, x, name, out):
        weight, bias = torch.randn(out, x.shape[1], 1, 1) / x.shape[1] ** 0.5, torch.randn(out)
        self.state |= {f'{name}.weight': weight, f'{name}.bias': bias}
        return F.conv2d(x, weight, bias)


@pytest.mark.parametrize(('size', 'depth', 'width', 'depthwise'), [('nano', 0.33, 0.25, True),
                                                                   ('s', 0.33, 0.5, False)])
@torch.no_grad()
def test_outputs_are_those_of_the_described_model(size, depth, width, depthwise):
    torch.manual_seed(0)
    naive, image = Naive(depth, width, depthwise), torch.randn(1, 3, 64, 96)
    want = naive(image, 80)
    ours = omnidet.build_model(omnidet.load_config(f'yolox/yolox_{size}_8xb8-300e_coco')).eval()
    state, unused = convert_megvii_yolox(naive.state)
    report = load_weights(ours, state, 'converted', strict=True)
    assert unused == [] and report.unexpected == []
    got = ours.bbox_head(ours.extract_feat(image))
    for i, key in enumerate(('cls', 'reg', 'objectness')):
        flat = torch.cat([level[i].flatten(2).mT for level in want], 1)
        assert flat.std() > 0.1 and torch.allclose(got[key].view_as(flat), flat, atol=1e-4), key


def test_classes_are_kept_on_every_level():
    state = {f'head.cls_preds.{k}.{kind}': torch.arange(4.) for k in range(3) for kind in ('weight', 'bias')}
    out, unused = convert_megvii_yolox({**state, 'x': torch.zeros(1)}, [3, 1])
    assert unused == ['x'] and all(v.tolist() == [3, 1] for v in out.values()) and len(out) == 6
    with pytest.raises(CheckpointError, match='no whole detector'):
        convert_megvii_yolox({'head.obj_preds.0.weight': torch.zeros(1)})

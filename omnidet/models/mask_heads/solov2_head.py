"""SOLOv2's head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.masks import InstanceMasks
from omnidet.models.parts.budget import choose
from omnidet.models.parts.mask_targets import flat_instance, required_masks
from omnidet.models.parts.solo_targets import grid_targets
from omnidet.nn import ConvModule, initialize
from omnidet.ops.distributed import reduce_mean
from omnidet.ops.masks import masks_at_stride, threshold_resized
from omnidet.ops.matrix_nms import matrix_nms
from omnidet.registry import LOSSES, MASK_HEADS, check_arguments
from omnidet.structures import ImageMeta, Result, Targets

Cfg = Mapping[str, Any]

MASKS_PER_IMAGE = 128
"""The most masks of an image that a loss is taken of; of more it takes some by chance."""
CELLS = 256
"""How many cells' masks are scored at a time."""
GROUPS: Cfg = {'type': 'GN', 'num_groups': 32, 'requires_grad': True}
DICE: Cfg = {'type': 'DiceLoss', 'use_sigmoid': True, 'loss_weight': 3.0}
FOCAL: Cfg = {'type': 'FocalLoss', 'use_sigmoid': True, 'gamma': 2.0, 'alpha': 0.25, 'loss_weight': 1.0}
NORMAL: Cfg = {'type': 'Normal', 'layer': 'Conv2d', 'std': 0.01}
NORMAL_CLS: Cfg = {**NORMAL, 'override': {'type': 'Normal', 'name': 'conv_cls', 'std': 0.01, 'bias_prob': 0.01}}


@dataclass(frozen=True)
class SOLOTesting:
    """The head's `test_cfg`.

    Attributes:
        nms_pre: the most candidates that matrix NMS sees.
        score_thr: the class score that a candidate must exceed.
        mask_thr: the probability that a mask's pixel must exceed.
        filter_thr: the score that matrix NMS must leave.
        kernel, sigma: how scores fall with overlap; see `matrix_nms`.
        max_per_img: the most detections of an image.
    """

    nms_pre: int = 500
    score_thr: float = 0.1
    mask_thr: float = 0.5
    filter_thr: float = 0.05
    kernel: str = 'gaussian'
    sigma: float = 2.0
    max_per_img: int = 100


class MaskFeatureHead(nn.Module):
    """One map of mask features from several levels (SOLOv2, arXiv:2003.10152, section 3.2.2).

    Each level is convolved and doubled in size until it is as large as the finest; their sum is convolved once more.

    Parameters: convs_all_levels.{level}.conv{step}, conv_pred.

    Args:
        in_channels: channels of the feature maps.
        feat_channels, out_channels: channels of the levels' convolutions, and of the result.
        start_level, end_level: the first and the last level that is used.
        mask_stride: pixels between cells of the result.
        conv_cfg, norm_cfg: the kinds of the layers.
        init_cfg: initial values; normal of std 0.01 where None.
    """

    def __init__(self, in_channels: int, feat_channels: int, start_level: int, end_level: int, out_channels: int,
                 mask_stride: int = 4, conv_cfg: Cfg | None = None, norm_cfg: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        self.levels, self.mask_stride, self.out_channels = slice(start_level, end_level + 1), mask_stride, out_channels

        def conv(channels: int, out: int, kernel_size: int = 3) -> ConvModule:
            return ConvModule(channels, out, kernel_size, padding=kernel_size // 2, conv_cfg=conv_cfg,
                              norm_cfg=norm_cfg, inplace=False)

        self.convs_all_levels = nn.ModuleList()
        for level in range(end_level - start_level + 1):
            last = 0 < level == end_level - start_level
            first = in_channels + 2 if last else in_channels    # the last level is given coordinates
            self.convs_all_levels.append(nn.ModuleDict({
                f'conv{i}': conv(first if i == 0 else feat_channels, feat_channels) for i in range(max(level, 1))}))
        self.conv_pred = conv(feat_channels, out_channels, 1)
        initialize(self, init_cfg, NORMAL)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Maps (B, C, H_l, W_l), finest first -> (B, out_channels, H, W) of the finest used."""
        used = feats[self.levels]
        sizes = [f.shape[-2:] for f in used]
        total = self.convs_all_levels[0]['conv0'](used[0])    # type: ignore[index, operator]
        for level in range(1, len(used)):
            x = with_coordinates(used[level]) if level == len(used) - 1 else used[level]
            for i, conv in enumerate(self.convs_all_levels[level].values()):    # type: ignore[operator, union-attr]
                x = _resize(conv(x), sizes[level - i - 1])
            total = total + x
        out: Tensor = self.conv_pred(total)
        return out


@MASK_HEADS.register
class SOLOV2Head(nn.Module):
    """SOLOv2's head: each cell of a grid predicts a class and the kernel that finds its object's mask.

    arXiv:2003.10152. Parameters: mask_feature_head, cls_convs, kernel_convs, conv_cls, conv_kernel.

    Args:
        num_classes: K.
        in_channels: channels of the feature maps.
        mask_feature_head: the arguments of `MaskFeatureHead`; `in_channels` is the head's.
        dynamic_conv_size: window of the predicted kernels.
        dcn_cfg: the kind of the towers' convolutions, where they are deformable.
        dcn_apply_to_all_conv: whether all of them are, or each tower's last.
        feat_channels, stacked_convs: channels and convolutions of a tower.
        strides: pixels between cells of each grid's feature map; a mask of fewer pixels is dropped.
        scale_ranges: (least, greatest) size in pixels of each grid's objects.
        pos_scale: the box of positive cells around an object's centre, as a part of its own.
        num_grids: cells on either side of each grid.
        cls_down_index: accepted as configs carry it: SOLO's way to a grid of classes.
        loss_mask, loss_cls: the losses.
        norm_cfg: the norm of the towers.
        train_cfg: accepted as configs carry it.
        test_cfg: the fields of `SOLOTesting`; None for a head that will not predict.
        init_cfg: initial values; normal of std 0.01, class scores that begin at 0.01, where None.
    """

    def __init__(self, num_classes: int, in_channels: int, mask_feature_head: Cfg, dynamic_conv_size: int = 1,
                 dcn_cfg: Cfg | None = None, dcn_apply_to_all_conv: bool = True, feat_channels: int = 256,
                 stacked_convs: int = 4, strides: Sequence[int] = (4, 8, 16, 32, 64),
                 scale_ranges: Sequence[tuple[float, float]] = ((8, 32), (16, 64), (32, 128), (64, 256), (128, 512)),
                 pos_scale: float = 0.2, num_grids: Sequence[int] = (40, 36, 24, 16, 12), cls_down_index: int = 0,
                 loss_mask: Cfg = DICE, loss_cls: Cfg = FOCAL, norm_cfg: Cfg | None = GROUPS,
                 train_cfg: Cfg | None = None, test_cfg: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        self.num_classes, self.strides, self.grids = num_classes, list(strides), list(num_grids)
        self.scale_ranges, self.pos_scale = scale_ranges, pos_scale
        self.dynamic_conv_size = dynamic_conv_size
        self.mask_feature_head = MaskFeatureHead(**{'in_channels': in_channels, **mask_feature_head})
        self.kernel_channels = self.mask_feature_head.out_channels * dynamic_conv_size ** 2

        def tower(channels: int) -> nn.ModuleList:
            return nn.ModuleList(ConvModule(
                channels if i == 0 else feat_channels, feat_channels, 3, padding=1, norm_cfg=norm_cfg,
                conv_cfg=dcn_cfg if dcn_apply_to_all_conv or i == stacked_convs - 1 else None)
                for i in range(stacked_convs))

        self.cls_convs, self.kernel_convs = tower(in_channels), tower(in_channels + 2)
        self.conv_cls = nn.Conv2d(feat_channels, num_classes, 3, padding=1)
        self.conv_kernel = nn.Conv2d(feat_channels, self.kernel_channels, 3, padding=1)
        self.loss_mask, self.loss_cls = LOSSES.build(loss_mask), LOSSES.build(loss_cls)
        if test_cfg is not None:
            check_arguments(SOLOTesting, test_cfg)
            self.testing = SOLOTesting(**test_cfg)
        initialize(self, init_cfg, NORMAL_CLS)

    def forward(self, feats: Sequence[Tensor]) -> dict[str, Tensor]:
        """L maps (B, C, H_l, W_l) -> cls (B, N, K) logits, kernel (B, N, E), mask (B, E, h, w) features.

        N counts the cells of all grids, row by row; E is one number for each entry of a kernel.
        """
        levels = [_resize(feats[0], feats[1].shape[-2:]), *feats[1:-1], _resize(feats[-1], feats[-2].shape[-2:])]
        cls, kernel = [], []
        for feat, grid in zip(levels, self.grids, strict=True):
            k = _resize(with_coordinates(feat), (grid, grid))
            c = k[:, :-2]
            for conv in self.kernel_convs:
                k = conv(k)
            for conv in self.cls_convs:
                c = conv(c)
            cls.append(self.conv_cls(c).flatten(2).transpose(1, 2))
            kernel.append(self.conv_kernel(k).flatten(2).transpose(1, 2))
        mask, size = self.mask_feature_head(feats), self.dynamic_conv_size
        if size > 1:
            mask = F.unfold(mask, size, padding=size // 2).view(len(mask), -1, *mask.shape[-2:])
        return {'cls': torch.cat(cls, 1), 'kernel': torch.cat(kernel, 1), 'mask': mask}

    def loss(self, feats: Sequence[Tensor], targets: Targets) -> dict[str, Tensor]:
        """The losses of a batch: {name: scalar}.

        Args:
            feats: L maps (B, C, H_l, W_l).
            targets: the ground truth of the B images, with masks.
        """
        out, masks = {name: x.float() for name, x in self(feats).items()}, required_masks(targets, self)
        with torch.autocast(out['mask'].device.type, enabled=False):
            return self.losses(out, masks, targets)

    def losses(self, out: Mapping[str, Tensor], masks: InstanceMasks, targets: Targets) -> dict[str, Tensor]:
        """The losses of what `forward` gave, in float32, and (B, G) masks."""
        h, w = out['mask'].shape[-2:]
        stride = self.mask_feature_head.mask_stride
        wanted = grid_targets(targets, masks, self.grids, self.scale_ranges, self.pos_scale, (h * stride, w * stride))
        positive = wanted.gt >= 0    # (B, N)
        count = reduce_mean(positive.sum().float())
        labels = torch.where(positive, targets.labels.gather(1, wanted.gt.clamp(min=0)), self.num_classes)

        index, weight = choose(wanted.trained, MASKS_PER_IMAGE)    # (B, P)
        cell = wanted.cell.gather(1, index)[..., None].expand(-1, -1, self.kernel_channels)
        logits = (out['kernel'].gather(1, cell) @ out['mask'].flatten(2)).view(-1, h, w)    # (B * P, h, w)
        instance = flat_instance(index // wanted.per_gt, targets.labels.shape[1])
        target = masks_at_stride(masks, instance, stride, (h, w), smooth=True)
        return {'loss_mask': self.loss_mask(logits, target, weight.flatten(), avg_factor=count.clamp(min=1)),
                'loss_cls': self.loss_cls(out['cls'], labels, avg_factor=count + 1)}

    def predict(self, feats: Sequence[Tensor], metas: Sequence[ImageMeta], rescale: bool = True) -> list[Result]:
        """The detections of each image; their boxes are those around their masks."""
        out = {name: x.float() for name, x in self(feats).items()}
        scores = peaks(out['cls'].sigmoid(), self.grids)
        return [self._image(s, kernel, mask, meta, rescale)
                for s, kernel, mask, meta in zip(scores, out['kernel'], out['mask'], metas, strict=True)]

    def _image(self, scores: Tensor, kernels: Tensor, feat: Tensor, meta: ImageMeta, rescale: bool) -> Result:
        """Scores (N, K), kernels (N, E), features (E, h, w) -> the detections of an image."""
        cfg = self.testing
        cell, label = (scores > cfg.score_thr).nonzero().unbind(1)
        quality, area = self._maskness(kernels, feat, scores.amax(1) > cfg.score_thr)
        stride = torch.cat([area.new_full((g * g,), s) for g, s in zip(self.grids, self.strides, strict=True)])
        large = area[cell] > stride[cell]
        cell, label = cell[large], label[large]
        score, best = (scores[cell, label] * quality[cell]).sort(descending=True, stable=True)
        score, best = score[:cfg.nms_pre], best[:cfg.nms_pre]
        cell, label = cell[best], label[best]
        probs = (kernels[cell] @ feat.flatten(1)).sigmoid().view(-1, *feat.shape[1:])
        keep, score = matrix_nms(probs > cfg.mask_thr, label, score, area[cell], max_num=cfg.max_per_img,
                                 kernel=cfg.kernel, sigma=cfg.sigma, filter_thr=cfg.filter_thr)
        size = meta.ori_shape[:2] if rescale else meta.img_shape[:2]
        masks = threshold_resized(probs[keep], partial(self._paste, meta=meta, size=size), size, cfg.mask_thr)
        return Result(masks.windows.float(), score, label[keep], masks=masks)

    def _maskness(self, kernels: Tensor, feat: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """The mean probability inside each cell's mask, and its pixels: (N,) each; zeros where not `wanted` (N,).

        A cell has one mask, whatever its classes, and few of them live to be detections: they are not kept.
        """
        quality, area = kernels.new_zeros(len(kernels)), kernels.new_zeros(len(kernels))
        for at in wanted.nonzero()[:, 0].split(CELLS):
            probs = (kernels[at] @ feat.flatten(1)).sigmoid()
            inside = (probs > self.testing.mask_thr).to(probs.dtype)
            area[at] = inside.sum(1)
            quality[at] = (probs * inside).sum(1) / area[at].clamp(min=1)
        return quality, area

    def _paste(self, probs: Tensor, meta: ImageMeta, size: tuple[int, int]) -> Tensor:
        """(K, h, w) on the grid of mask features -> (K, H, W) in an image of `size`, through the size of the batch."""
        stride, (h, w) = self.mask_feature_head.mask_stride, meta.img_shape[:2]
        full = _resize(probs[None], (probs.shape[1] * stride, probs.shape[2] * stride))[..., :h, :w]
        return _resize(full, size)[0]


def with_coordinates(feat: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C + 2, H, W): x, then y, from -1 in the first to 1 in the last cell (arXiv:1807.03247)."""
    y, x = (torch.linspace(-1, 1, n, device=feat.device, dtype=feat.dtype) for n in feat.shape[-2:])
    shape = (len(feat), 1, *feat.shape[-2:])
    return torch.cat([feat, x.expand(shape), y[:, None].expand(shape)], 1)


def peaks(scores: Tensor, grids: Sequence[int]) -> Tensor:
    """(B, N, K) scores, 0 where a cell's left, upper or upper left neighbour in its grid has a higher one."""
    out = []
    for part, grid in zip(scores.split([g * g for g in grids], 1), grids, strict=True):
        maps = part.transpose(1, 2).unflatten(2, (grid, grid))    # (B, K, S, S)
        highest = F.max_pool2d(maps, 2, stride=1, padding=1)[..., :-1, :-1]
        out.append((maps * (maps == highest)).flatten(2).transpose(1, 2))
    return torch.cat(out, 1)


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode='bilinear', align_corners=False)

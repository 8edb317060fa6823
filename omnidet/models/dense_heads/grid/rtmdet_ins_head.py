"""RTMDet-Ins's heads: RTMDet's with masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.models.dense_heads.grid.driver import DenseHead, Outputs
from omnidet.models.dense_heads.grid.layers import conv_tower, flatten_levels, through
from omnidet.models.dense_heads.grid.rtmdet_parts import init_rtmdet, rtmdet_losses, share_convs, with_objectness
from omnidet.models.parts.budget import choose
from omnidet.models.parts.dynamic_masks import DynamicMasks, mask_targets
from omnidet.models.parts.mask_targets import flat_instance, required_masks
from omnidet.models.parts.postprocess import GridPostprocess, MaskPostprocess
from omnidet.nn import Scale
from omnidet.ops.distributed import reduce_mean
from omnidet.ops.masks import threshold_resized
from omnidet.registry import DENSE_HEADS, LOSSES
from omnidet.structures import Assignment, ImageMeta, Priors, Result, Targets

Cfg = Mapping[str, Any]

MASKS_PER_IMAGE = 128
"""The most masks of an image that a loss is taken of; of more positives it takes some by chance."""
POINTS: Cfg = {'type': 'MlvlPointGenerator', 'offset': 0, 'strides': [8, 16, 32]}
DISTANCES: Cfg = {'type': 'DistancePointBBoxCoder'}
QFL: Cfg = {'type': 'QualityFocalLoss', 'use_sigmoid': True, 'beta': 2.0, 'loss_weight': 1.0}
GIOU: Cfg = {'type': 'GIoULoss', 'loss_weight': 2.0}
DICE: Cfg = {'type': 'DiceLoss', 'loss_weight': 2.0, 'eps': 5e-6, 'reduction': 'mean'}


class MaskFeatures(nn.Module):
    """One map of mask features from all levels (arXiv:2212.07784, section 3.4).

    Parameters: fusion_conv, stacked_convs, projection.

    Args:
        in_channels, feat_channels, out_channels: of the levels, the convolutions and the result.
        num_levels: how many levels there are.
        stacked_convs: how many convolutions follow where the levels meet.
        norm_cfg, act_cfg: the kinds of their layers.
    """

    def __init__(self, in_channels: int, feat_channels: int, out_channels: int, num_levels: int,
                 stacked_convs: int = 4, norm_cfg: Cfg | None = None, act_cfg: Cfg | None = None) -> None:
        super().__init__()
        self.fusion_conv = nn.Conv2d(num_levels * in_channels, in_channels, 1)
        self.stacked_convs = conv_tower(in_channels, feat_channels, stacked_convs, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.projection = nn.Conv2d(feat_channels, out_channels, 1)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """L maps (B, C, H_l, W_l), finest first -> (B, out_channels, H, W) of the finest."""
        first, *rest = feats
        same = [F.interpolate(f, size=first.shape[-2:], mode='bilinear', align_corners=False) for f in rest]
        out: Tensor = self.projection(through(self.stacked_convs, self.fusion_conv(torch.cat([first, *same], 1))))
        return out


class _MaskedHead(DenseHead):
    """A grid head whose `forward` also gives `kernel` (B, N, L), each prior's network, and `mask`, the features."""

    testing_fields = MaskPostprocess
    dynamic: DynamicMasks
    mask_loss_stride: int
    loss_mask: nn.Module

    def losses(self, out: Outputs, priors: Priors, assignment: Assignment, gt_boxes: Tensor,
               gt_labels: Tensor) -> dict[str, Tensor]:
        """Class loss against the boxes' IoUs, box loss weighted by them, both over their sum; then masks."""
        return rtmdet_losses(self, out, priors, assignment, gt_boxes, gt_labels)

    def loss_of(self, out: Outputs, priors: Priors, targets: Targets) -> dict[str, Tensor]:
        losses, assignment = self.losses_and_assignment(out, priors, targets)
        with torch.autocast(out['mask'].device.type, enabled=False):
            return {**losses, 'loss_mask': self._mask_loss(out, priors, targets, assignment)}

    def _mask_loss(self, out: Outputs, priors: Priors, targets: Targets, assignment: Assignment) -> Tensor:
        masks = required_masks(targets, self)
        index, weight = choose(assignment.positive, MASKS_PER_IMAGE)    # (B, P)
        params = out['kernel'].gather(1, index[..., None].expand(-1, -1, self.dynamic.num_params))
        logits = self.dynamic(out['mask'].float(), params.float(), priors, index)
        logits = _enlarge(logits, self.dynamic.stride // self.mask_loss_stride)
        instance = flat_instance(assignment.gt.gather(1, index), targets.labels.shape[1])
        target = mask_targets(masks, instance, self.mask_loss_stride, logits)
        count = reduce_mean(assignment.positive.sum().float()).clamp(min=1)
        loss: Tensor = self.loss_mask(logits.flatten(0, 1), target, weight.flatten(), avg_factor=count)
        return loss

    def detect_with_priors(self, out: Outputs, priors: Priors, metas: Sequence[ImageMeta], rescale: bool,
                           options: GridPostprocess) -> list[tuple[Result, Tensor]]:
        found = super().detect_with_priors(out, priors, metas, rescale, options)
        if not isinstance(options, MaskPostprocess):    # proposals have no masks
            return found
        return [(self._masked(result, index, kernel, mask, priors, meta, rescale, options), index)
                for (result, index), kernel, mask, meta in zip(found, out['kernel'], out['mask'], metas, strict=True)]

    def _masked(self, result: Result, index: Tensor, kernel: Tensor, mask: Tensor, priors: Priors, meta: ImageMeta,
                rescale: bool, options: MaskPostprocess) -> Result:
        """An image's detections with their masks; `kernel` is (N, L), `mask` (C, h, w)."""
        logits = self.dynamic(mask[None].float(), kernel[index][None].float(), priors, index[None])[0]
        size = meta.ori_shape[:2] if rescale else meta.img_shape[:2]

        def paste(part: Tensor) -> Tensor:
            full = _enlarge(part[None], self.dynamic.stride)
            if rescale:
                h, w = (math.ceil(n / s) for n, s in zip(full.shape[-2:], meta.scale_factor[::-1], strict=True))
                full = F.interpolate(full, size=(h, w), mode='bilinear', align_corners=False)
            return full[0, :, :size[0], :size[1]]
        thr = torch.tensor(options.pixel_thr).logit().item()
        return result.replace(masks=threshold_resized(logits, paste, size, thr))


def _enlarge(maps: Tensor, factor: int) -> Tensor:
    return maps if factor == 1 else F.interpolate(maps, scale_factor=factor, mode='bilinear', align_corners=False)


@DENSE_HEADS.register
class RTMDetInsHead(_MaskedHead):
    """RTMDet-Ins's head with one tower for all levels (arXiv:2212.07784, section 3.4).

    Parameters: cls_convs, reg_convs, kernel_convs, rtm_cls, rtm_reg, rtm_obj, rtm_kernel, scales, mask_head.

    Args:
        num_prototypes: channels of the mask features.
        dyconv_channels, num_dyconvs: channels and layers of an instance's network.
        mask_loss_stride: pixels between the points where a mask is held against the truth.
        loss_mask: the loss of masks.
        The others: see `RTMDetHead`; `test_cfg` has the fields of `MaskPostprocess`.
    """

    def __init__(self, num_classes: int, in_channels: int, num_prototypes: int = 8, dyconv_channels: int = 8,
                 num_dyconvs: int = 3, mask_loss_stride: int = 4, loss_mask: Cfg = DICE, with_objectness: bool = True,
                 act_cfg: Cfg = {'type': 'ReLU'}, pred_kernel_size: int = 3, stacked_convs: int = 4,
                 conv_cfg: Cfg | None = None,
                 norm_cfg: Cfg | None = {'type': 'GN', 'num_groups': 32, 'requires_grad': True},
                 feat_channels: int = 256, reg_decoded_bbox: bool = True, anchor_generator: Cfg = POINTS,
                 bbox_coder: Cfg = DISTANCES, loss_cls: Cfg = QFL, loss_bbox: Cfg = GIOU,
                 loss_centerness: Cfg | None = None, train_cfg: Cfg | None = None, test_cfg: Cfg | None = None,
                 init_cfg: Cfg | None = None) -> None:
        super().__init__(anchor_generator, bbox_coder, train_cfg, test_cfg)
        self.num_classes, self.with_objectness, self.mask_loss_stride = num_classes, with_objectness, mask_loss_stride
        self.dynamic = _dynamic(self.prior_generator, num_prototypes, dyconv_channels, num_dyconvs)

        def tower() -> nn.ModuleList:
            return conv_tower(in_channels, feat_channels, stacked_convs, conv_cfg=conv_cfg, norm_cfg=norm_cfg,
                              act_cfg=act_cfg)

        def last(channels: int) -> nn.Conv2d:
            return nn.Conv2d(feat_channels, channels, pred_kernel_size, padding=pred_kernel_size // 2)

        self.cls_convs, self.reg_convs, self.kernel_convs = tower(), tower(), tower()
        self.rtm_cls, self.rtm_reg, self.rtm_kernel = last(num_classes), last(4), last(self.dynamic.num_params)
        if with_objectness:
            self.rtm_obj = last(1)
        levels = len(self.prior_generator.strides)
        self.scales = nn.ModuleList(Scale(1.0) for _ in range(levels))
        self.mask_head = MaskFeatures(in_channels, feat_channels, num_prototypes, levels, 4, norm_cfg, act_cfg)
        self.loss_cls, self.loss_bbox = LOSSES.build(loss_cls), LOSSES.build(loss_bbox)
        self.loss_mask = LOSSES.build(loss_mask)
        init_rtmdet(self)

    def forward(self, feats: Sequence[Tensor]) -> Outputs:
        """L maps (B, C, H_l, W_l) -> cls (B, N, K), reg (B, N, 4) in pixels, kernel (B, N, L), mask (B, C, h, w)."""
        cls, reg, kernel = [], [], []
        for feat, scale, stride in zip(feats, self.scales, self.prior_generator.strides, strict=True):
            c, r = through(self.cls_convs, feat), through(self.reg_convs, feat)
            logits = self.rtm_cls(c)
            cls.append(with_objectness(logits, self.rtm_obj(r)) if self.with_objectness else logits)
            reg.append(scale(self.rtm_reg(r).exp()).float() * stride[0])
            kernel.append(self.rtm_kernel(through(self.kernel_convs, feat)))
        return {'cls': flatten_levels(cls, self.num_classes), 'reg': flatten_levels(reg, 4),
                'kernel': flatten_levels(kernel, self.dynamic.num_params), 'mask': self.mask_head(feats)}


@DENSE_HEADS.register
class RTMDetInsSepBNHead(_MaskedHead):
    """RTMDet-Ins's head whose levels share convolutions but not batch norms (arXiv:2212.07784, section 3.4).

    Parameters, the first each a list over levels: cls_convs, reg_convs, kernel_convs, rtm_cls, rtm_reg, rtm_kernel,
    rtm_obj; mask_head. As in the published models, reg_convs are cls_convs under a second name.

    Args:
        share_conv: let all levels use the first one's convolutions, but in `kernel_convs`.
        The others: see `RTMDetInsHead`.
    """

    def __init__(self, num_classes: int, in_channels: int, share_conv: bool = True, with_objectness: bool = False,
                 norm_cfg: Cfg | None = {'type': 'BN', 'requires_grad': True}, act_cfg: Cfg = {'type': 'SiLU'},
                 pred_kernel_size: int = 1, num_prototypes: int = 8, dyconv_channels: int = 8, num_dyconvs: int = 3,
                 mask_loss_stride: int = 4, loss_mask: Cfg = DICE, stacked_convs: int = 4,
                 conv_cfg: Cfg | None = None, feat_channels: int = 256, reg_decoded_bbox: bool = True,
                 anchor_generator: Cfg = POINTS, bbox_coder: Cfg = DISTANCES, loss_cls: Cfg = QFL,
                 loss_bbox: Cfg = GIOU, loss_centerness: Cfg | None = None, train_cfg: Cfg | None = None,
                 test_cfg: Cfg | None = None, init_cfg: Cfg | None = None) -> None:
        super().__init__(anchor_generator, bbox_coder, train_cfg, test_cfg)
        self.num_classes, self.with_objectness, self.mask_loss_stride = num_classes, with_objectness, mask_loss_stride
        self.dynamic = _dynamic(self.prior_generator, num_prototypes, dyconv_channels, num_dyconvs)
        levels = range(len(self.prior_generator.strides))

        def towers() -> nn.ModuleList:
            return nn.ModuleList(conv_tower(in_channels, feat_channels, stacked_convs, conv_cfg=conv_cfg,
                                            norm_cfg=norm_cfg, act_cfg=act_cfg) for _ in levels)

        def last(channels: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(feat_channels, channels, pred_kernel_size, padding=pred_kernel_size // 2)
                                 for _ in levels)

        self.cls_convs, self.kernel_convs = towers(), towers()
        self.reg_convs = nn.ModuleList(self.cls_convs)    # the very same: so were the published models trained
        self.rtm_cls, self.rtm_reg, self.rtm_kernel = last(num_classes), last(4), last(self.dynamic.num_params)
        if with_objectness:
            self.rtm_obj = last(1)
        if share_conv:
            for tower in self.cls_convs[1:]:
                share_convs(tower, self.cls_convs[0])
        self.mask_head = MaskFeatures(in_channels, feat_channels, num_prototypes, len(levels), 4, norm_cfg, act_cfg)
        self.loss_cls, self.loss_bbox = LOSSES.build(loss_cls), LOSSES.build(loss_bbox)
        self.loss_mask = LOSSES.build(loss_mask)
        init_rtmdet(self)

    def forward(self, feats: Sequence[Tensor]) -> Outputs:
        """L maps (B, C, H_l, W_l) -> cls (B, N, K), reg (B, N, 4) in pixels, kernel (B, N, L), mask (B, C, h, w)."""
        cls, reg, kernel = [], [], []
        for i, (feat, stride) in enumerate(zip(feats, self.prior_generator.strides, strict=True)):
            x = through(self.cls_convs[i], feat)
            logits = self.rtm_cls[i](x)
            cls.append(with_objectness(logits, self.rtm_obj[i](x)) if self.with_objectness else logits)
            reg.append(self.rtm_reg[i](x).relu() * stride[0])
            kernel.append(self.rtm_kernel[i](through(self.kernel_convs[i], feat)))
        return {'cls': flatten_levels(cls, self.num_classes), 'reg': flatten_levels(reg, 4),
                'kernel': flatten_levels(kernel, self.dynamic.num_params), 'mask': self.mask_head(feats)}


def _dynamic(priors: Any, channels: int, width: int, layers: int) -> DynamicMasks:
    """Masks on the grid of the finest level."""
    return DynamicMasks(channels, width, layers, stride=priors.strides[0][0], offset=priors.offset)

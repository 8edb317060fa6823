"""CondInst's mask head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.models.parts.budget import choose
from omnidet.models.parts.dynamic_masks import DynamicMasks, enlarge_aligned, mask_targets
from omnidet.models.parts.mask_targets import flat_instance, required_masks
from omnidet.models.parts.postprocess import MaskPostprocess
from omnidet.nn import ConvModule, initialize
from omnidet.ops.distributed import reduce_mean
from omnidet.ops.masks import threshold_resized
from omnidet.registry import LOSSES, MASK_HEADS, check_arguments
from omnidet.structures import Assignment, ImageMeta, Priors, Result, Targets

Cfg = Mapping[str, Any]

MASKS_PER_IMAGE = 128
"""The most masks of an image that a loss is taken of, where a config names no number."""
NORMAL: Cfg = {'type': 'Normal', 'layer': 'Conv2d', 'std': 0.01}
DICE: Cfg = {'type': 'DiceLoss', 'use_sigmoid': True, 'activate': True, 'eps': 5e-6, 'loss_weight': 1.0}


class MaskFeatureBranch(nn.Module):
    """One map of mask features from several levels (arXiv:2003.05664, section 3.2).

    Each level is convolved once and enlarged to the finest one's size; their sum is convolved further.

    Parameters: convs_all_levels.{level}.conv{level}, conv_branch, conv_pred.

    Args:
        in_channels, feat_channels, out_channels: of the levels, the convolutions, and the result.
        start_level, end_level: the first and the last level that is used.
        mask_stride: pixels between cells of the result.
        num_stacked_convs: how many convolutions follow the sum.
        conv_cfg, norm_cfg: the kinds of the layers.
        init_cfg: initial values; normal of std 0.01 where None.
    """

    def __init__(self, in_channels: int, feat_channels: int, start_level: int, end_level: int, out_channels: int,
                 mask_stride: int = 4, num_stacked_convs: int = 4, conv_cfg: Cfg | None = None,
                 norm_cfg: Cfg | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        self.levels, self.mask_stride, self.out_channels = slice(start_level, end_level + 1), mask_stride, out_channels

        def conv(channels: int) -> ConvModule:
            return ConvModule(channels, feat_channels, 3, padding=1, conv_cfg=conv_cfg, norm_cfg=norm_cfg,
                              inplace=False)

        self.convs_all_levels = nn.ModuleList(nn.ModuleDict({f'conv{i}': conv(in_channels)})
                                              for i in range(end_level - start_level + 1))
        self.conv_branch = nn.Sequential(*(conv(feat_channels) for _ in range(num_stacked_convs)))
        self.conv_pred = nn.Conv2d(feat_channels, out_channels, 1)
        initialize(self, init_cfg, NORMAL)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Maps (B, C, H_l, W_l), finest first -> (B, out_channels, H, W) of the finest used."""
        used = feats[self.levels]
        maps = [level[f'conv{i}'](feat)    # type: ignore[index, operator]
                for i, (level, feat) in enumerate(zip(self.convs_all_levels, used, strict=True))]
        h, w = maps[0].shape[-2:]
        total = maps[0]
        for x in maps[1:]:
            # levels of odd sizes are enlarged past the finest one's and cut
            total = total + enlarge_aligned(x, -(-h // x.shape[-2]))[..., :h, :w]
        out: Tensor = self.conv_pred(self.conv_branch(total))
        return out


@MASK_HEADS.register
class CondInstMaskHead(nn.Module):
    """CondInst's masks: shared features, and a small network for each object (arXiv:2003.05664).

    Parameters: mask_feature_head.

    Args:
        mask_feature_head: the arguments of `MaskFeatureBranch`.
        num_layers, feat_channels: layers and channels of an object's network.
        mask_out_stride: pixels between the cells of a mask.
        size_of_interest: positions are in so many strides of the level that an object was found on.
        max_masks_to_train: the most masks of a batch that a loss is taken of, an equal share for each image; of more
            positives it takes some by chance.
        topk_masks_per_img: the most masks of an image; only one of the two limits may be set.
        loss_mask: the loss.
        train_cfg: accepted as configs carry it.
        test_cfg: the fields of `MaskPostprocess`, of which the pixels' threshold counts here; None for a head that
            will not predict.
        init_cfg: accepted as configs carry it: the head has no parameters beside its features.
    """

    def __init__(self, mask_feature_head: Cfg, num_layers: int = 3, feat_channels: int = 8, mask_out_stride: int = 4,
                 size_of_interest: int = 8, max_masks_to_train: int = -1, topk_masks_per_img: int = -1,
                 loss_mask: Cfg = DICE, train_cfg: Cfg | None = None, test_cfg: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        if max_masks_to_train > 0 and topk_masks_per_img > 0:
            raise ConfigError(f'CondInstMaskHead: max_masks_to_train is {max_masks_to_train} and topk_masks_per_img is '
                              f'{topk_masks_per_img}; only one of them may be set, the other is -1')
        self.mask_feature_head = MaskFeatureBranch(**mask_feature_head)
        self.dynamic = DynamicMasks(self.mask_feature_head.out_channels, feat_channels, num_layers,
                                    self.mask_feature_head.mask_stride, offset=0.5, reach=size_of_interest)
        self.mask_out_stride = mask_out_stride
        self.max_masks_to_train, self.topk_masks_per_img = max_masks_to_train, topk_masks_per_img
        self.loss_mask = LOSSES.build(loss_mask)
        if test_cfg is not None:
            check_arguments(MaskPostprocess, test_cfg)
            self.pixel_thr = MaskPostprocess(**test_cfg).pixel_thr

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """L maps (B, C, H_l, W_l) -> mask features (B, C, h, w)."""
        out: Tensor = self.mask_feature_head(feats)
        return out.float()

    def logits(self, feat: Tensor, kernel: Tensor, priors: Priors, index: Tensor) -> Tensor:
        """P masks in each image.

        Args:
            feat: (B, C, h, w), what `forward` gave.
            kernel: (B, N, L), the networks of all priors.
            priors: N points.
            index: (B, P) int64, the priors whose masks are wanted.

        Returns:
            (B, P, h, w), a cell for every `mask_out_stride` pixels.
        """
        params = kernel.gather(1, index[..., None].expand(-1, -1, kernel.shape[2])).float()
        with torch.autocast(feat.device.type, enabled=False):
            small = self.dynamic(feat, params, priors, index)
            return enlarge_aligned(small, self.mask_feature_head.mask_stride // self.mask_out_stride)

    def loss(self, feats: Sequence[Tensor], kernel: Tensor, priors: Priors, assignment: Assignment,
             targets: Targets) -> dict[str, Tensor]:
        """The loss of the masks at positive priors: {name: scalar}.

        Args:
            feats: L maps (B, C, H_l, W_l).
            kernel, priors: see `logits`.
            assignment: which object each prior answers for.
            targets: the ground truth of the B images, with masks.
        """
        masks = required_masks(targets, self)
        index, weight = choose(assignment.positive, self._places(len(targets)))    # (B, P)
        logits = self.logits(self(feats), kernel, priors, index)
        instance = flat_instance(assignment.gt.gather(1, index), targets.labels.shape[1])
        target = mask_targets(masks, instance, self.mask_out_stride, logits)
        count = reduce_mean(assignment.positive.sum().float()).clamp(min=1)
        return {'loss_mask': self.loss_mask(logits.flatten(0, 1), target, weight.flatten(), avg_factor=count)}

    def _places(self, B: int) -> int:
        """How many masks of each of B images the loss is taken of, at the most."""
        if self.max_masks_to_train > 0:
            return max(self.max_masks_to_train // B, 1)
        return self.topk_masks_per_img if self.topk_masks_per_img > 0 else MASKS_PER_IMAGE

    def predict(self, feats: Sequence[Tensor], kernel: Tensor, priors: Priors, found: Sequence[tuple[Result, Tensor]],
                metas: Sequence[ImageMeta], rescale: bool = True) -> list[Result]:
        """Detections with their masks.

        Args:
            feats: L maps (B, C, H_l, W_l).
            kernel, priors: see `logits`.
            found: for each image its detections, and the prior (R,) that each came from.
            metas: B, for the sizes.
            rescale: give masks in the size of the file, not of the batch.
        """
        results = []
        for feat, networks, (result, index), meta in zip(self(feats), kernel, found, metas, strict=True):
            probs = self.logits(feat[None], networks[None], priors, index[None])[0].sigmoid()
            size = meta.ori_shape[:2] if rescale else meta.img_shape[:2]
            masks = threshold_resized(probs, partial(self._paste, meta=meta, size=size), size, self.pixel_thr)
            results.append(result.replace(masks=masks))
        return results

    def _paste(self, probs: Tensor, meta: ImageMeta, size: tuple[int, int]) -> Tensor:
        """(K, h, w) at `mask_out_stride` -> (K, H, W) in an image of `size`, through the size of the batch."""
        full = enlarge_aligned(probs[None], self.mask_out_stride)[..., :meta.img_shape[0], :meta.img_shape[1]]
        return F.interpolate(full, size=size, mode='bilinear', align_corners=False)[0]

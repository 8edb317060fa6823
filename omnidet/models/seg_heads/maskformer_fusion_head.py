"""From the classes and masks of queries to instances, panoptic maps and semantic maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.ops.stretch import Stretch, stretch, stretch_masks
from omnidet.panoptic import INSTANCE_OFFSET
from omnidet.registry import SEG_HEADS, check_arguments
from omnidet.structures import ImageMeta, Result

Cfg = Mapping[str, Any]

BUDGET = 1 << 24    # numbers that a block of a semantic map may hold: 64 MB


@dataclass(frozen=True)
class MaskTesting:
    """The head's `test_cfg`.

    Attributes:
        panoptic_on, instance_on, semantic_on: which of the three results to give.
        max_per_image: the most instances of an image.
        object_mask_thr: the score that a query's class must exceed to take part in a panoptic map.
        iou_thr: the share of its own mask that a segment must keep in the contest with the others.
        filter_low_score: leave a pixel to nobody where the winner's mask has a probability below a half.
    """

    panoptic_on: bool = True
    instance_on: bool = False
    semantic_on: bool = False
    max_per_image: int = 100
    object_mask_thr: float = 0.8
    iou_thr: float = 0.8
    filter_low_score: bool = False


@SEG_HEADS.register
class MaskFormerFusionHead(nn.Module):
    """What mask classification finds (arXiv:2107.06278, section 3.4; arXiv:2112.01527, appendix A). No parameters.

    Masks are brought to the size of the image only for the queries that a result keeps, and instances only around
    where they may be.

    Args:
        num_things_classes, num_stuff_classes: K together; things come first.
        test_cfg: the fields of `MaskTesting`; None for a head that will not predict.
        loss_panoptic: must be None: there is nothing to learn.
        init_cfg: accepted as configs carry it.
    """

    def __init__(self, num_things_classes: int = 80, num_stuff_classes: int = 53, test_cfg: Cfg | None = None,
                 loss_panoptic: Cfg | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        if loss_panoptic is not None:
            raise ConfigError('MaskFormerFusionHead: loss_panoptic must be None; the head has no parameters to learn')
        self.num_things, self.num_classes = num_things_classes, num_things_classes + num_stuff_classes
        if test_cfg is not None:
            check_arguments(MaskTesting, test_cfg)
            self.testing_cfg = MaskTesting(**test_cfg)

    @torch.no_grad()
    def predict(self, logits: Tensor, masks: Tensor, image_shape: tuple[int, int], metas: Sequence[ImageMeta],
                rescale: bool = True) -> list[Result]:
        """The results of each image.

        Args:
            logits: (B, Q, K + 1), 'nothing' last.
            masks: (B, Q, h, w) logits.
            image_shape: (H, W) of the batch.
            metas: of the images.
            rescale: give masks and boxes in pixels of the image's file.
        """
        size = (masks.shape[2], masks.shape[3])
        out = []
        for score, maps, meta in zip(logits.float().softmax(-1), masks.float(), metas, strict=True):
            shape = (int(meta.img_shape[0]), int(meta.img_shape[1]))
            final = (int(meta.ori_shape[0]), int(meta.ori_shape[1])) if rescale else shape
            to = stretch(size, image_shape, shape, final, maps.device)
            cfg = self.testing_cfg
            result = self.instances(score, maps, to) if cfg.instance_on else _nothing(maps)
            out.append(result.replace(panoptic=self.panoptic(score, maps, to) if cfg.panoptic_on else None,
                                      sem_seg=self.semantic(score, maps, to) if cfg.semantic_on else None))
        return out

    def instances(self, scores: Tensor, maps: Tensor, to: Stretch) -> Result:
        """The best pairs of a query and a class of things, scored by class and by how sure the mask is of itself.

        Args:
            scores: (Q, K + 1).
            maps: (Q, h, w) logits.
            to: the size of the image.
        """
        flat = scores[:, :-1].flatten()
        score, index = flat.topk(min(self.testing_cfg.max_per_image, len(flat)))
        query, label = torch.div(index, self.num_classes, rounding_mode='floor'), index % self.num_classes
        thing = label < self.num_things
        score, query, label = score[thing], query[thing], label[thing]
        kept, place = query.unique(return_inverse=True)    # a query of several classes has one mask
        masks, boxes, certainty = stretch_masks(maps[kept], to)
        score, order = (score * certainty[place]).sort(descending=True, stable=True)
        place = place[order]
        return Result(boxes[place], score, label[order], masks[place])

    def panoptic(self, scores: Tensor, maps: Tensor, to: Stretch) -> Tensor:
        """(H, W) int64, class + 1000 * instance: each pixel goes to the query whose class and mask are surest there.

        The arguments are those of `instances`.
        """
        cfg, nothing = self.testing_cfg, self.num_classes
        score, label = scores.max(-1)
        keep = ((label != nothing) & (score > cfg.object_mask_thr)).nonzero()[:, 0]
        score, label, maps = score[keep], label[keep], maps[keep]
        n, (H, W) = len(keep), to.size
        best = torch.full((H, W), -1.0, device=maps.device)
        owner = torch.full((H, W), n, device=maps.device)
        sure = torch.zeros(H, W, dtype=torch.bool, device=maps.device)    # the owner's mask covers the pixel
        whole = torch.zeros(n, dtype=torch.int64, device=maps.device)
        for k in range(n):
            prob = to(maps[k]).sigmoid()
            inside, value = prob >= 0.5, prob * score[k]
            better = value > best
            best = torch.where(better, value, best)
            owner = owner.masked_fill(better, k)
            sure = torch.where(better, inside, sure)
            whole[k] = inside.sum()
        won = owner.flatten().bincount(minlength=n + 1)[:n]
        table = torch.tensor(self._values(label.tolist(), won.tolist(), whole.tolist()), device=maps.device)
        values = table[owner]
        return values.masked_fill(~sure, nothing) if cfg.filter_low_score else values

    def _values(self, labels: Sequence[int], won: Sequence[int], whole: Sequence[int]) -> list[int]:
        """The value of each query's pixels in the panoptic map, and of those that are nobody's.

        Args:
            labels: (n).
            won: (n) how many pixels each query won.
            whole: (n) how many its mask has.
        """
        values, instance = [], 0
        for label, part, all_of_it in zip(labels, won, whole, strict=True):
            if not part or not all_of_it or part / all_of_it < self.testing_cfg.iou_thr:
                values.append(self.num_classes)
            elif label < self.num_things:
                instance += 1
                values.append(label + INSTANCE_OFFSET * instance)
            else:
                values.append(label)    # pieces of one stuff class are one segment
        return [*values, self.num_classes]

    def semantic(self, scores: Tensor, maps: Tensor, to: Stretch) -> Tensor:
        """(H, W) int64, the class that all queries together are surest of at each pixel.

        The arguments are those of `instances`.
        """
        W = to.size[1]
        step = max(BUDGET // (W * max(self.num_classes, len(maps))), 1)
        rows = [torch.einsum('qk,qhw->khw', scores[:, :-1], Stretch(part, to.columns)(maps).sigmoid()).argmax(0)
                for part in to.rows.split(step, dim=1)]
        return torch.cat(rows)


def _nothing(maps: Tensor) -> Result:
    none = maps.new_zeros(0)
    return Result(none.view(0, 4), none, none.long())

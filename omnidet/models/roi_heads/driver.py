"""The one driver of RoI heads: proposals go through one stage, or several, each starting from the last one's boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.models.roi_heads.detections import RoIPostprocess
from omnidet.models.roi_heads.sampling import SampledRoIs, as_rois, sample_rois
from omnidet.nn import initialize
from omnidet.ops.masks import crop_and_resize, paste_masks
from omnidet.registry import ASSIGNERS, ROI_HEADS, SAMPLERS, check_arguments
from omnidet.structures import ImageMeta, Proposals, Result, Targets

Cfg = Mapping[str, Any]
Cfgs = Cfg | Sequence[Cfg] | None


@dataclass(frozen=True)
class RoITraining:
    """`train_cfg.rcnn`, of one stage.

    Attributes:
        assigner: which object each proposal answers for.
        sampler: which proposals the losses see.
        mask_size: side, or (h, w), of the masks that the mask head learns, in cells.
        pos_weight: weight of a positive RoI's class loss; 1 where not positive.
        mask_thr_binary, debug: accepted as configs carry them.
    """

    assigner: Cfg
    sampler: Cfg
    mask_size: int | Sequence[int] = 28
    pos_weight: float = -1
    mask_thr_binary: float = 0.5
    debug: bool = False


@dataclass(frozen=True)
class Stage:
    """The parts of one stage; `training`, `assigner` and `sampler` are None in a head that will not train."""

    bbox_extractor: nn.Module
    bbox_head: Any
    mask_extractor: nn.Module | None
    mask_head: Any | None
    training: RoITraining | None
    assigner: Any
    sampler: Any
    prefix: str
    weight: float


class RoIHead(nn.Module):
    """Stages of pooling, classing and refining boxes, and of drawing masks; the two walks over them.

    A subclass owns the modules and says by `stages()` which belong together. A stage without a mask extractor gives its
    box features to the mask head.

    Args:
        shared_head: layers that box and mask heads share; none where None.
        train_cfg: the fields of `RoITraining`, for each stage or for all; None for a head that will not train.
        test_cfg: the fields of `RoIPostprocess`; None for a head that will not predict.
        num_stages: how many stages there are.

    Raises:
        ConfigError: another number of `train_cfg`s than of stages, or a field that does not exist.
    """

    def __init__(self, shared_head: Cfg | None, train_cfg: Cfgs, test_cfg: Cfg | None, num_stages: int) -> None:
        super().__init__()
        self.shared_head = None if shared_head is None else ROI_HEADS.build(shared_head)
        self.trainings: list[RoITraining] = []
        for cfg in () if train_cfg is None else _per_stage('train_cfg.rcnn', train_cfg, num_stages):
            check_arguments(RoITraining, cfg)
            self.trainings.append(RoITraining(**cfg))
        self.assigners = [ASSIGNERS.build(t.assigner) for t in self.trainings]
        self.samplers = [SAMPLERS.build(t.sampler) for t in self.trainings]
        if test_cfg is not None:
            check_arguments(RoIPostprocess, test_cfg)
            self.postprocess = RoIPostprocess(**test_cfg)

    def stages(self) -> list[Stage]:
        """The parts of each stage, first to last."""
        raise NotImplementedError(f'{type(self).__name__} does not define stages()')

    def pool(self, extractor: nn.Module, feats: Sequence[Tensor], rois: Tensor) -> Tensor:
        """(M, C, h, w): what a stage's heads see of the boxes (M, 5)."""
        x = extractor(feats, rois)
        return x if self.shared_head is None else self.shared_head(x)

    def loss(self, feats: Sequence[Tensor], proposals: Proposals, targets: Targets) -> dict[str, Tensor]:
        """The losses of a batch: {name: scalar}.

        Each stage draws S RoIs of each image and trains on them; the next one starts from the boxes that they are
        refined to, without those that were objects' own boxes. Nothing waits for the device but the extractors' sorting
        by level and the mask head, which is too heavy to run on what is not positive.

        Args:
            feats: L maps (B, C, H_l, W_l).
            proposals: R boxes of each image.
            targets: the ground truth of the B images.
        """
        losses: dict[str, Tensor] = {}
        boxes, valid = proposals.boxes.float(), proposals.valid
        stages = self.stages()
        for i, stage in enumerate(stages):
            drawn = self.draw(stage, feats, boxes, valid, targets)
            rois, flat = as_rois(drawn.boxes), drawn.flatten()
            x = self.pool(stage.bbox_extractor, feats, rois)    # (B * S, C, h, w)
            out = stage.bbox_head(x)
            found = stage.bbox_head.losses(out, flat, stage.training.pos_weight)    # type: ignore[union-attr]
            if stage.mask_head is not None:
                found.update(self.mask_loss(stage, feats, x, rois, flat, targets))
            losses.update({stage.prefix + name: value * stage.weight if 'loss' in name else value
                           for name, value in found.items()})
            if i + 1 < len(stages):
                with torch.no_grad():
                    sizes = targets.sizes.repeat_interleave(drawn.boxes.shape[1], 0)    # (B * S, 2)
                    detached = {name: value.detach() for name, value in out.items()}
                    boxes = stage.bbox_head.refine(flat.boxes, detached, flat.labels, sizes).view_as(drawn.boxes)
                    valid = drawn.sampled & ~drawn.given
        return losses

    def draw(self, stage: Stage, feats: Sequence[Tensor], boxes: Tensor, valid: Tensor, targets: Targets
             ) -> SampledRoIs:
        """The RoIs that a stage trains on, out of (B, R, 4) proposals."""
        def hardness(boxes: Tensor, labels: Tensor) -> Tensor:
            out = stage.bbox_head(self.pool(stage.bbox_extractor, feats, as_rois(boxes)))
            return stage.bbox_head.hardness(out, labels.flatten()).view_as(labels)
        if stage.training is None:
            raise ConfigError(f'{type(self).__name__} has no train_cfg.rcnn, so it cannot train')
        return sample_rois(boxes, valid, targets, stage.assigner, stage.sampler, stage.bbox_head.num_classes, hardness)

    def mask_loss(self, stage: Stage, feats: Sequence[Tensor], x: Tensor, rois: Tensor, flat: SampledRoIs,
                  targets: Targets) -> dict[str, Tensor]:
        """The mask head's losses, on the positive ones of M RoIs, which are gathered.

        Args:
            x: (M, C, h, w), what the box head saw.
            rois: (M, 5).
            flat: what is to be learned at them.
        """
        if targets.masks is None:
            raise ConfigError(f'{type(stage.mask_head).__name__} cannot train: the data has no masks; the pipeline '
                              "needs dict(type='LoadAnnotations', with_bbox=True, with_mask=True)")
        at = flat.positive.nonzero()[:, 0]
        chosen = x[at] if stage.mask_extractor is None else self.pool(stage.mask_extractor, feats, rois[at])
        size = stage.training.mask_size    # type: ignore[union-attr]
        masks = crop_and_resize(targets.masks, rois[at, 1:], rois[at, 0].long(), flat.gt[at],
                                (size, size) if isinstance(size, int) else (size[0], size[1]))
        return stage.mask_head.losses(  # type: ignore[union-attr]
            stage.mask_head(chosen), (masks >= 0.5).float(), flat.labels[at])    # type: ignore[misc]

    def predict(self, feats: Sequence[Tensor], proposals: Proposals, metas: Sequence[ImageMeta],
                rescale: bool = True) -> list[Result]:
        """The detections of each image.

        Class logits and mask probabilities are averaged over the stages; boxes are the last one's.

        Args:
            feats: L maps (B, C, H_l, W_l).
            proposals: R boxes of each image.
            metas: B, for the size to clip to and the way back to the file's pixels.
            rescale: give boxes in pixels of the file, and masks of its size; else those of the batch.
        """
        stages = self.stages()
        rois = as_rois(proposals.boxes.float())[proposals.valid.flatten()]    # (M, 5), image by image
        counts = proposals.valid.sum(1).tolist()
        sizes = rois.new_tensor([meta.img_shape for meta in metas])[rois[:, 0].long()]    # (M, 2)
        logits: list[Tensor] = []
        for i, stage in enumerate(stages):
            out = stage.bbox_head(self.pool(stage.bbox_extractor, feats, rois))
            logits.append(out['cls'])
            if i + 1 < len(stages):
                background = rois.new_full((len(rois),), stage.bbox_head.num_classes, dtype=torch.long)
                rois = torch.cat([rois[:, :1], stage.bbox_head.refine(rois[:, 1:], out, background, sizes)], 1)
        head = stages[-1].bbox_head
        scores = head.scores(logits[0] if len(logits) == 1 else torch.stack(logits).mean(0))    # (M, K)
        results, start = [], 0
        for count, part in zip(counts, scores.split(counts), strict=True):
            def decode(roi: Tensor, label: Tensor, start: int = start) -> Tensor:
                rows = roi + start
                return head.decode(rois[rows, 1:], out, label, rows, sizes[rows])
            results.append(self.postprocess(part, decode))
            start += count
        if stages[-1].mask_head is not None:
            results = self.with_masks(stages, feats, results, metas, rescale)
        elif rescale:
            results = [_scaled(result, meta) for result, meta in zip(results, metas, strict=True)]
        return results

    def with_masks(self, stages: Sequence[Stage], feats: Sequence[Tensor], results: Sequence[Result],
                   metas: Sequence[ImageMeta], rescale: bool) -> list[Result]:
        """Draw the masks of detections in pixels of the batch; rescale both."""
        rois = torch.cat([torch.cat([r.boxes.new_full((len(r), 1), i), r.boxes], 1) for i, r in enumerate(results)])
        labels = torch.cat([r.labels for r in results])
        probs: list[Tensor] = []
        x, pooled = rois, None    # stages whose extractors have no parameters see the same features
        for stage in stages:
            extractor = stage.mask_extractor or stage.bbox_extractor
            if pooled is None or any(True for _ in extractor.parameters()):
                x, pooled = self.pool(extractor, feats, rois), True
            probs.append(stage.mask_head.probabilities(stage.mask_head(x), labels))    # type: ignore[union-attr]
        masks = torch.stack(probs).mean(0) if len(probs) > 1 else probs[0]    # (M, h, w)
        out = []
        for result, part, meta in zip(results, masks.split([len(r) for r in results]), metas, strict=True):
            result, size = (_scaled(result, meta), meta.ori_shape) if rescale else (result, meta.img_shape)
            out.append(result.replace(masks=paste_masks(part, result.boxes, size, self.postprocess.mask_thr_binary)))
        return out


@ROI_HEADS.register
class StandardRoIHead(RoIHead):
    """One stage, with or without masks (Faster R-CNN, arXiv:1506.01497; Mask R-CNN, arXiv:1703.06870).

    Parameters: shared_head, bbox_roi_extractor, bbox_head, mask_roi_extractor, mask_head.

    Args:
        bbox_roi_extractor, bbox_head: the features of a RoI, and what is made of them.
        mask_roi_extractor: the features that the mask head sees; the box head's where None.
        mask_head: no masks where None.
        shared_head, train_cfg, test_cfg: see `RoIHead`.
        init_cfg: initial values.
    """

    def __init__(self, bbox_roi_extractor: Cfg | None = None, bbox_head: Cfg | None = None,
                 mask_roi_extractor: Cfg | None = None, mask_head: Cfg | None = None, shared_head: Cfg | None = None,
                 train_cfg: Cfg | None = None, test_cfg: Cfg | None = None, init_cfg: Cfgs = None) -> None:
        super().__init__(shared_head, train_cfg, test_cfg, 1)
        self.bbox_roi_extractor, self.bbox_head = _build(bbox_roi_extractor), _build(bbox_head)
        self.mask_roi_extractor = None if mask_roi_extractor is None else _build(mask_roi_extractor)
        self.mask_head = None if mask_head is None else _build(mask_head)
        initialize(self, init_cfg)

    def stages(self) -> list[Stage]:
        return [Stage(self.bbox_roi_extractor, self.bbox_head, self.mask_roi_extractor, self.mask_head,
                      *_training(self, 0), prefix='', weight=1.0)]


@ROI_HEADS.register
class CascadeRoIHead(RoIHead):
    """Several stages, each trained for a tighter overlap than the last (Cascade R-CNN, arXiv:1712.00726).

    Parameters, each a list over stages: bbox_roi_extractor, bbox_head, mask_roi_extractor, mask_head; shared_head.

    Args:
        num_stages: how many.
        stage_loss_weights: a factor for the losses of each.
        bbox_roi_extractor, bbox_head, mask_roi_extractor, mask_head: of each stage, or one for all of them to have
            their own of; see `StandardRoIHead`.
        shared_head, train_cfg, test_cfg: see `RoIHead`.
        init_cfg: initial values.

    Raises:
        ConfigError: a list whose length is not `num_stages`.
    """

    def __init__(self, num_stages: int, stage_loss_weights: Sequence[float], bbox_roi_extractor: Cfgs = None,
                 bbox_head: Cfgs = None, mask_roi_extractor: Cfgs = None, mask_head: Cfgs = None,
                 shared_head: Cfg | None = None, train_cfg: Cfgs = None, test_cfg: Cfg | None = None,
                 init_cfg: Cfgs = None) -> None:
        super().__init__(shared_head, train_cfg, test_cfg, num_stages)
        if len(stage_loss_weights) != num_stages:
            raise ConfigError(f'CascadeRoIHead: {len(stage_loss_weights)} stage_loss_weights for {num_stages} stages')
        self.stage_loss_weights = tuple(stage_loss_weights)

        def each(name: str, cfgs: Cfgs) -> nn.ModuleList:
            return nn.ModuleList(_build(cfg) for cfg in _per_stage(f'CascadeRoIHead.{name}', cfgs, num_stages))
        self.bbox_roi_extractor = each('bbox_roi_extractor', bbox_roi_extractor)
        self.bbox_head = each('bbox_head', bbox_head)
        self.mask_roi_extractor = None if mask_roi_extractor is None else each('mask_roi_extractor', mask_roi_extractor)
        self.mask_head = None if mask_head is None else each('mask_head', mask_head)
        initialize(self, init_cfg)

    def stages(self) -> list[Stage]:
        return [Stage(self.bbox_roi_extractor[i], self.bbox_head[i],
                      None if self.mask_roi_extractor is None else self.mask_roi_extractor[i],
                      None if self.mask_head is None else self.mask_head[i], *_training(self, i), prefix=f's{i}.',
                      weight=weight) for i, weight in enumerate(self.stage_loss_weights)]


def _build(cfg: Cfg | None) -> nn.Module:
    return ROI_HEADS.build(cfg)    # type: ignore[arg-type]


def _training(head: RoIHead, i: int) -> tuple[RoITraining | None, Any, Any]:
    return (head.trainings[i], head.assigners[i], head.samplers[i]) if head.trainings else (None, None, None)


def _per_stage(name: str, cfgs: Cfgs, num_stages: int) -> list[Cfg]:
    """A config for each stage, out of a list of them or one for all."""
    if cfgs is None or isinstance(cfgs, Mapping):
        return [cfgs] * num_stages    # type: ignore[list-item]
    if len(cfgs) != num_stages:
        raise ConfigError(f'{name} describes {len(cfgs)} stages; there are {num_stages}')
    return list(cfgs)


def _scaled(result: Result, meta: ImageMeta) -> Result:
    """With boxes in pixels of the image's file."""
    return result.replace(boxes=result.boxes / result.boxes.new_tensor([*meta.scale_factor, *meta.scale_factor]))

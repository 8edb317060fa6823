"""The projects whose detectors' weights become ours, each known by names that only its weights have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from omnidet.checkpoints import (
    megvii_yolox,
    timm_backbones,
    torchvision_detection,
    torchvision_fcos,
    torchvision_retinanet,
    torchvision_ssd,
    transformers_detr,
    transformers_mask2former,
)
from omnidet.errors import CheckpointError

State = Mapping[str, Tensor]
Converter = Callable[[State, 'Sequence[int] | None'], tuple[dict[str, Tensor], list[str]]]


class Peer(NamedTuple):
    """A model of another project.

    Attributes:
        project: its name, as `--from` takes it.
        model: what the model is called.
        marks: ends of names that such weights have, all of them.
        lacks: ends of names that they have not.
        convert: (state, classes) -> our state, and the names without a place in it.
        config: of the zoo, which fits the published weights.
        coco_ids: the published weights number COCO's classes by their ids, with gaps.
    """

    project: str
    model: str
    marks: tuple[str, ...]
    lacks: tuple[str, ...]
    convert: Converter
    config: str
    coco_ids: bool = True

    def knows(self, state: State) -> bool:
        """Whether the weights are this model's."""
        return (all(any(n.endswith(mark) for n in state) for mark in self.marks)
                and not any(n.endswith(mark) for n in state for mark in self.lacks))


def _torchvision_rcnn(state: State, classes: Sequence[int] | None) -> tuple[dict[str, Tensor], list[str]]:
    return torchvision_detection.convert_torchvision_detection(state, classes), []


_TORCHVISION_RETINA = ('head.classification_head.cls_logits.weight', 'head.regression_head.bbox_reg.weight')
_MASKS = ('roi_heads.mask_predictor.mask_fcn_logits.weight',)
_KEYPOINTS = 'roi_heads.keypoint_predictor.kps_score_lowres.weight'

PEERS = (
    Peer('torchvision', 'Mask R-CNN', ('roi_heads.box_predictor.cls_score.weight', *_MASKS), (_KEYPOINTS,),
         _torchvision_rcnn, 'torchvision/mask-rcnn_r50_fpn_coco'),
    Peer('torchvision', 'Faster R-CNN', ('roi_heads.box_predictor.cls_score.weight',), (*_MASKS, _KEYPOINTS),
         _torchvision_rcnn, 'torchvision/faster-rcnn_r50_fpn_coco'),
    Peer('torchvision', 'RetinaNet', _TORCHVISION_RETINA, ('head.regression_head.bbox_ctrness.weight',),
         torchvision_retinanet.convert_torchvision_retinanet, 'torchvision/retinanet_r50_fpn_coco'),
    Peer('torchvision', 'FCOS', (_TORCHVISION_RETINA[0], 'head.regression_head.bbox_ctrness.weight'), (),
         torchvision_fcos.convert_torchvision_fcos, 'torchvision/fcos_r50_fpn_coco'),
    Peer('torchvision', 'SSD300', ('backbone.scale_weight', 'head.classification_head.module_list.0.weight'), (),
         torchvision_ssd.convert_torchvision_ssd, 'torchvision/ssd300_vgg16_coco'),
    Peer('transformers', 'DETR', ('class_labels_classifier.weight', 'model.input_projection.weight'), (),
         transformers_detr.convert_detr, 'detr/detr_r50_8xb2-150e_coco'),
    Peer('transformers', 'Deformable DETR in two stages', ('model.level_embed', 'model.enc_output.weight'), (),
         transformers_detr.convert_deformable_detr, 'transformers/deformable-detr-refine-twostage_r50_coco'),
    Peer('transformers', 'Deformable DETR with refined boxes',
         ('model.level_embed', 'model.reference_points.weight', 'model.decoder.bbox_embed.0.layers.0.weight'), (),
         transformers_detr.convert_deformable_detr, 'transformers/deformable-detr-refine_r50_coco'),
    Peer('transformers', 'Deformable DETR', ('model.level_embed', 'model.reference_points.weight'), (),
         transformers_detr.convert_deformable_detr, 'transformers/deformable-detr_r50_coco'),
    Peer('transformers', 'Mask2Former', ('model.transformer_module.queries_features.weight', 'class_predictor.weight'),
         (), transformers_mask2former.convert_mask2former, 'mask2former/mask2former_*', coco_ids=False),
    Peer('megvii-yolox', 'YOLOX', ('backbone.lateral_conv0.conv.weight', 'head.cls_preds.0.weight'), (),
         megvii_yolox.convert_megvii_yolox, 'yolox/yolox_*', coco_ids=False),
)
"""The first that knows the weights counts."""

PROJECTS = tuple(dict.fromkeys(p.project for p in PEERS))


@dataclass
class Conversion:
    """Weights under our names.

    Attributes:
        state: the weights.
        peer: whose they were.
        unused: names in the file that have no place in ours.
    """

    state: dict[str, Tensor]
    peer: Peer
    unused: list[str] = field(default_factory=list)


def recognise(state: State) -> Peer | None:
    """The model of another project that the weights are of; None where they are of none that converts."""
    return next((p for p in PEERS if p.knows(state)), None)


def convert_checkpoint(state: State, project: str = 'auto', classes: Sequence[int] | None = None) -> Conversion:
    """Weights of another project under our names.

    Args:
        state: that project's state dict.
        project: one of `PROJECTS`, or 'auto' to see by the names; 'timm' for a backbone of timm's, whose names may be
            those of other projects too.
        classes: the classes to keep, as that project numbers them, in the order that they should have; all if None.

    Raises:
        CheckpointError: the weights are of no known model, or not of that project.
    """
    if project == 'timm':
        kind, out, unused = timm_backbones.from_timm(state)
        return Conversion(out, Peer('timm', kind.model, (kind.theirs,), (), lambda s, c: (dict(s), []), ''), unused)
    peer = recognise(state)
    if peer is None or project not in ('auto', peer.project):
        models = ', '.join(f'{p.model} of {p.project}' for p in PEERS if project in ('auto', p.project))
        found = f'they are {peer.model} of {peer.project}' if peer else f'their names are like {_examples(state)}'
        raise CheckpointError(f'these weights are of no model that is converted from {project}: {found}. '
                              f'Known are {models}')
    out, unused = peer.convert(state, classes)
    return Conversion(out, peer, unused)


def _examples(state: State) -> str:
    return ', '.join(map(repr, list(state)[:3])) or 'none'

"""Our weights under the names of other projects: the tables that read theirs, turned around."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from omnidet.checkpoints.megvii_yolox import to_megvii_yolox
from omnidet.checkpoints.renaming import new_name
from omnidet.checkpoints.timm_backbones import RESNET, to_timm
from omnidet.checkpoints.torchvision_detection import to_torchvision_detection
from omnidet.checkpoints.torchvision_retinanet import to_torchvision_retinanet
from omnidet.errors import CheckpointError

State = Mapping[str, Tensor]


class Target(NamedTuple):
    """A model of another project that ours can become.

    Attributes:
        project: its name, as `--to-project` takes it.
        model: what the model is called.
        marks: names that our weights of it have, all of them.
        convert: our state -> theirs, and the names without a place in it.
    """

    project: str
    model: str
    marks: tuple[str, ...]
    convert: Callable[[State], tuple[dict[str, Tensor], list[str]]]


_RCNN = ('rpn_head.rpn_cls.weight', 'roi_head.bbox_head.fc_cls.bias', 'roi_head.bbox_head.fc_reg.bias')

TARGETS = (
    Target('torchvision', 'Mask R-CNN', (*_RCNN, 'roi_head.mask_head.conv_logits.weight'), to_torchvision_detection),
    Target('torchvision', 'Faster R-CNN', _RCNN, to_torchvision_detection),
    Target('torchvision', 'RetinaNet', ('bbox_head.retina_cls.bias', 'bbox_head.retina_reg.bias'),
           to_torchvision_retinanet),
    Target('megvii-yolox', 'YOLOX', ('bbox_head.multi_level_conv_cls.0.weight',), to_megvii_yolox),
)
"""The first whose marks the weights have counts; timm takes any detector's backbone."""

PROJECTS = (*dict.fromkeys(t.project for t in TARGETS), 'timm')


def convert_outward(state: State, project: str) -> tuple[str, dict[str, Tensor], list[str]]:
    """Our weights as another project has them.

    Args:
        state: a detector's weights; for timm also a backbone's alone.
        project: one of `PROJECTS`.

    Returns:
        The model's name there, the weights, and for timm our names that it has no place for.

    Raises:
        CheckpointError: the project has no such model, or the model has parts that it lacks.
    """
    if project == 'timm':
        kind, out, unused = to_timm(state)
        return kind.model, out, unused
    target = next((t for t in TARGETS if t.project == project and all(m in state for m in t.marks)), None)
    if target is None:
        models = ', '.join(t.model for t in TARGETS if t.project == project)
        raise CheckpointError(f'these weights are of no model that becomes one of {project}: their names are like '
                              f'{", ".join(map(repr, list(state)[:3]))}. Known are {models}')
    out, unused = target.convert(state)
    if project == 'torchvision':    # whose table takes any name of a backbone
        unused += [k for k in state if k.startswith('backbone.')
                   and new_name(k.removeprefix('backbone.'), RESNET) is None]
    if unused:
        raise CheckpointError(f'{project}\'s {target.model} has no place for {len(unused)} of these weights: '
                              f'{", ".join(unused[:3])}{", ..." if len(unused) > 3 else ""}')
    return target.model, out, unused

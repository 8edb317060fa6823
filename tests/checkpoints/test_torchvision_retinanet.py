"""torchvision's RetinaNet against ours with the same weights."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import detection

import omnidet
from omnidet.checkpoints.torchvision_retinanet import convert_torchvision_retinanet
from omnidet.errors import CheckpointError
from omnidet.structures import ImageMeta

SIZE = (96, 160)
MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]


@torch.no_grad()
def test_detections_are_torchvisions():
    torch.manual_seed(0)
    theirs = detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None, min_size=SIZE[0], max_size=SIZE[1])
    torch.nn.init.normal_(theirs.head.classification_head.cls_logits.weight, 0, 0.05)
    theirs.head.classification_head.cls_logits.bias.view(9, 91)[:, 0] = -20    # a class that never occurs
    torch.nn.init.normal_(theirs.head.regression_head.bbox_reg.weight, 0, 0.02)
    norms = [m for m in theirs.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for m in norms:
        m.momentum = 1.0
    theirs.train().backbone(torch.randn(2, 3, *SIZE))
    for m in norms:
        m.eps = 0.0
    state, unused = convert_torchvision_retinanet(theirs.eval().state_dict())
    ours = omnidet.build_model(omnidet.load_config('torchvision/retinanet_r50_fpn_coco')).eval()
    ours.load_state_dict(state)
    assert unused == []
    image = torch.rand(3, *SIZE)
    want, got = theirs([image])[0], ours.predict(((image - MEAN) / STD)[None], [ImageMeta(SIZE, SIZE)])[0]
    assert len(got) == len(want['scores']) == 300
    assert torch.allclose(got.scores, want['scores'], atol=1e-5)
    assert torch.allclose(got.boxes, want['boxes'], atol=1e-2)
    assert torch.equal(got.labels, want['labels'] - 1)


def test_the_second_versions_names_fit_a_head_with_norms():
    with torch.device('meta'):
        theirs = detection.retinanet_resnet50_fpn_v2(weights=None, weights_backbone=None)
        cfg = omnidet.load_config('torchvision/retinanet_r50_fpn_coco').model
        cfg.neck.add_extra_convs = 'on_input'
        cfg.bbox_head.norm_cfg = {'type': 'GN', 'num_groups': 32}
        ours = omnidet.build_model(cfg)
    state, unused = convert_torchvision_retinanet({k: torch.zeros(v.shape) for k, v in theirs.state_dict().items()})
    assert unused == []
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in ours.state_dict().items()}


def _head():
    """Two anchors in a cell and three classes; a row of the class layer holds 10 * anchor + class."""
    return {'head.classification_head.cls_logits.bias': torch.tensor([0., 1, 2, 10, 11, 12]),
            'head.regression_head.bbox_reg.bias': torch.zeros(8)}


@pytest.mark.parametrize(('classes', 'rows'), [(None, [1, 2, 11, 12]), ([2], [2, 12]), ([2, 1], [2, 1, 12, 11])])
def test_classes_are_kept_for_every_anchor(classes, rows):
    state, _ = convert_torchvision_retinanet(_head(), classes)
    assert state['bbox_head.retina_cls.bias'].tolist() == rows


def test_names_of_old_files_count_activations():
    state, unused = convert_torchvision_retinanet({**_head(), 'head.regression_head.conv.6.bias': torch.zeros(1),
                                                   'x': torch.zeros(1)})
    assert 'bbox_head.reg_convs.3.conv.bias' in state and unused == ['x']


def test_what_does_not_fit_is_told():
    with pytest.raises(CheckpointError, match='no whole detector'):
        convert_torchvision_retinanet({'backbone.body.conv1.weight': torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r'\[0, 3\]'):
        convert_torchvision_retinanet(_head(), [0, 1, 3])

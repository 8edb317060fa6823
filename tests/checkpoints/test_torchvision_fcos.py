"""torchvision's FCOS against ours with the same weights."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import detection

import omnidet
from omnidet.checkpoints.peers import convert_checkpoint
from omnidet.checkpoints.torchvision_fcos import convert_torchvision_fcos
from omnidet.errors import CheckpointError
from omnidet.structures import ImageMeta, Targets

SIZE = (128, 256)
MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]


@pytest.fixture(scope='module')
def models():
    """Theirs with scores that differ, boxes that move and settled norms, and ours with its weights."""
    torch.manual_seed(0)
    theirs = detection.fcos_resnet50_fpn(weights=None, weights_backbone=None, min_size=SIZE[0], max_size=SIZE[1])
    head = theirs.head
    torch.nn.init.normal_(head.classification_head.cls_logits.weight, 0, 0.08)
    head.classification_head.cls_logits.bias.data[0] = -20    # a class that never occurs
    torch.nn.init.normal_(head.regression_head.bbox_reg.weight, 0, 0.05)
    torch.nn.init.normal_(head.regression_head.bbox_ctrness.weight, 0, 0.05)
    norms = [m for m in theirs.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for m in norms:
        m.momentum = 1.0
    with torch.no_grad():
        theirs.train().backbone(torch.randn(2, 3, *SIZE))
    for m in norms:
        m.eps = 0.0
    conversion = convert_checkpoint(theirs.eval().state_dict(), 'torchvision')
    ours = omnidet.build_model(omnidet.load_config('torchvision/fcos_r50_fpn_coco')).eval()
    ours.load_state_dict(conversion.state)
    assert conversion.unused == [] and conversion.peer.model == 'FCOS'
    return theirs, ours


def _image():
    return torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(1))


def test_detections_are_torchvisions(models):
    theirs, ours = models
    with torch.no_grad():
        want = theirs([_image()])[0]
        got = ours.predict(((_image() - MEAN) / STD)[None], [ImageMeta(SIZE, SIZE)])[0]
    assert len(got) == len(want['scores']) == 100
    assert torch.allclose(got.scores, want['scores'], atol=1e-5)
    assert torch.allclose(got.boxes, want['boxes'], atol=1e-2)
    assert torch.equal(got.labels, want['labels'] - 1)


def test_losses_are_torchvisions(models):
    theirs, ours = models
    boxes = torch.tensor([[20.3, 10.2, 70.9, 60.4], [100.1, 5.7, 240.2, 120.6], [30.5, 20.6, 50.2, 45.1]])
    labels = torch.tensor([3, 0, 89])
    try:
        theirs.train()
        for m in theirs.backbone.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.eval()
        with torch.no_grad():
            want = theirs([_image()], [dict(boxes=boxes, labels=labels + 1)])
            got = ours.loss(((_image() - MEAN) / STD)[None], Targets.collate([dict(boxes=boxes, labels=labels)], SIZE))
    finally:
        theirs.eval()
    assert float(want['classification']) > 1 and float(want['bbox_regression']) > 0.1
    for mine, other in (('loss_cls', 'classification'), ('loss_bbox', 'bbox_regression'),
                        ('loss_centerness', 'bbox_ctrness')):
        assert torch.allclose(got[mine], want[other], rtol=1e-4), mine


def _head():
    return {'head.classification_head.cls_logits.bias': torch.arange(4.)}


@pytest.mark.parametrize(('classes', 'rows'), [(None, [1, 2, 3]), ([3, 1], [3, 1])])
def test_classes_are_kept(classes, rows):
    assert convert_torchvision_fcos(_head(), classes)[0]['bbox_head.conv_cls.bias'].tolist() == rows


def test_what_does_not_fit_is_told():
    assert convert_torchvision_fcos({**_head(), 'x': torch.zeros(1)})[1] == ['x']
    with pytest.raises(CheckpointError, match='no whole detector'):
        convert_torchvision_fcos({'backbone.body.conv1.weight': torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r'\[0, 4\]'):
        convert_torchvision_fcos(_head(), [0, 1, 4])

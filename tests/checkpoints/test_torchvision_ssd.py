"""torchvision's SSD300 against ours with the same weights."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList

import omnidet
from omnidet.checkpoints.peers import convert_checkpoint
from omnidet.checkpoints.torchvision_ssd import convert_torchvision_ssd
from omnidet.errors import CheckpointError
from omnidet.structures import ImageMeta, Targets

SIZE = (300, 300)
MEAN = torch.tensor([0.48235, 0.45882, 0.40784])[:, None, None]


@pytest.fixture(scope='module')
def models():
    """Theirs with scores that differ and boxes that move, and ours with its weights."""
    torch.manual_seed(0)
    theirs = detection.ssd300_vgg16(weights=None, weights_backbone=None).eval()
    for m in theirs.backbone.modules():
        if isinstance(m, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(m.weight, nonlinearity='relu')
            torch.nn.init.uniform_(m.bias, -0.1, 0.1)
    spread = [0.012, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002]    # a cell of the finest level has a length of 20
    for i, level in enumerate(theirs.head.classification_head.module_list):
        torch.nn.init.normal_(level.weight, 0, spread[i])
        level.bias.data.view(-1, 91)[:, 0] = 6
    for i, level in enumerate(theirs.head.regression_head.module_list):
        torch.nn.init.normal_(level.weight, 0, spread[i] / 4)
    conversion = convert_checkpoint(theirs.state_dict(), 'torchvision')
    ours = omnidet.build_model(omnidet.load_config('torchvision/ssd300_vgg16_coco')).eval()
    ours.load_state_dict(conversion.state)
    assert conversion.unused == [] and conversion.peer.model == 'SSD300'
    return theirs, ours


def _image():
    return torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(1))


def _input():
    return ((_image() - MEAN) * 255)[None]


def test_detections_are_torchvisions(models):
    theirs, ours = models
    with torch.no_grad():
        want, got = theirs([_image()])[0], ours.predict(_input(), [ImageMeta(SIZE, SIZE)])[0]
    assert len(got) == len(want['scores']) == 200
    assert torch.allclose(got.scores, want['scores'], atol=1e-5)
    assert torch.allclose(got.boxes, want['boxes'], atol=1e-2)
    assert torch.equal(got.labels, want['labels'] - 1)


def test_default_boxes_are_torchvisions(models):
    theirs, ours = models
    grids = [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)]
    want = theirs.anchor_generator(ImageList(torch.zeros(1, 3, *SIZE), [SIZE]), [torch.zeros(1, 1, *g) for g in grids])
    got = ours.bbox_head.prior_generator(grids)
    assert got.level_sizes == (5776, 2166, 600, 150, 36, 4)
    assert torch.allclose(got.boxes, want[0], atol=1e-3)


def test_losses_are_torchvisions(models):
    theirs, ours = models
    boxes = torch.tensor([[20.3, 10.2, 170.9, 160.4], [100.1, 5.7, 240.2, 120.6], [30.5, 20.6, 50.2, 45.1]])
    labels = torch.tensor([3, 0, 89])
    try:
        theirs.train()
        with torch.no_grad():
            want = theirs([_image()], [dict(boxes=boxes, labels=labels + 1)])
            got = ours.loss(_input(), Targets.collate([dict(boxes=boxes, labels=labels)], SIZE))
    finally:
        theirs.eval()
    assert float(want['classification']) > 1 and float(want['bbox_regression']) > 0.1
    assert torch.allclose(got['loss_cls'], want['classification'], rtol=1e-4)
    assert torch.allclose(got['loss_bbox'], want['bbox_regression'], rtol=1e-4)


def _head():
    """One level with two anchors in a cell and three classes; a row of the class layer holds 10 * anchor + class."""
    return {'head.classification_head.module_list.0.bias': torch.tensor([0., 1, 2, 10, 11, 12]),
            'head.regression_head.module_list.0.bias': torch.zeros(8)}


@pytest.mark.parametrize(('classes', 'rows'), [(None, [1, 2, 0, 11, 12, 10]), ([2], [2, 0, 12, 10])])
def test_classes_are_kept_for_every_anchor_and_background_comes_last(classes, rows):
    assert convert_torchvision_ssd(_head(), classes)[0]['bbox_head.cls_convs.0.0.bias'].tolist() == rows


def test_what_does_not_fit_is_told():
    assert convert_torchvision_ssd({**_head(), 'x': torch.zeros(1)})[1] == ['x']
    with pytest.raises(CheckpointError, match='no whole detector'):
        convert_torchvision_ssd({'backbone.scale_weight': torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r'lack bbox_head\.reg_convs'):
        convert_torchvision_ssd({'head.classification_head.module_list.0.bias': torch.zeros(6)})
    with pytest.raises(CheckpointError, match=r'\[0, 3\]'):
        convert_torchvision_ssd(_head(), [0, 3])

"""torchvision's detectors against ours with the same weights."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList

import omnidet
from omnidet.checkpoints.torchvision_detection import COCO_CATEGORIES, convert_torchvision_detection
from omnidet.data.datasets.coco_classes import COCO_CLASSES
from omnidet.errors import CheckpointError
from omnidet.ops.masks import paste_masks
from omnidet.registry import PRIORS
from omnidet.structures import ImageMeta

SIZE = (128, 192)
MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def _torchvision(build):
    """A model of theirs whose scores differ and whose boxes move, with norms as the published weights have them."""
    torch.manual_seed(0)
    model = build(weights=None, weights_backbone=None, min_size=SIZE[0], max_size=SIZE[1])
    for name, p in model.named_parameters():
        std = {'cls_score.weight': 0.05, 'rpn.head.bbox_pred.weight': 0.003, 'predictor.bbox_pred.weight': 0.02}
        for ending, value in std.items():
            if name.endswith(ending):
                torch.nn.init.normal_(p, 0, value)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for m in norms:
        m.momentum = 1.0
    with torch.no_grad():
        model.train()
        model.backbone(torch.randn(2, 3, *SIZE))
    for m in norms:
        m.eps = 0.0
    return model.eval()


def _ours(name, theirs):
    model = omnidet.build_model(omnidet.load_config(f'torchvision/{name}-rcnn_r50_fpn_coco')).eval()
    model.load_state_dict(convert_torchvision_detection(theirs.state_dict()))
    return model


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'build'), [('faster', detection.fasterrcnn_resnet50_fpn),
                                             ('mask', detection.maskrcnn_resnet50_fpn)])
@torch.no_grad()
def test_detections_are_torchvisions(name, build):
    theirs = _torchvision(build)
    ours = _ours(name, theirs)
    image = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(1))
    images, meta = ((image - MEAN) / STD)[None], ImageMeta(SIZE, SIZE)
    want, got = theirs([image])[0], ours.predict(images, [meta])[0]
    assert len(got) == len(want['scores']) == 100
    assert torch.allclose(got.scores, want['scores'], atol=1e-5)
    assert torch.allclose(got.boxes, want['boxes'], atol=1e-2)
    assert torch.equal(got.labels, want['labels'] - 1)

    feats = theirs.backbone(images)
    proposals = theirs.rpn(ImageList(images, [SIZE]), feats)[0][0]
    mine = ours.rpn_head.propose(ours.extract_feat(images), [meta])
    assert torch.allclose(mine.boxes[0, mine.valid[0]], proposals, atol=1e-2)
    if name == 'mask':
        detected = theirs.roi_heads(feats, [proposals], [SIZE])[0][0]
        head, rois = ours.roi_head, torch.cat([torch.zeros(100, 1), detected['boxes']], 1)
        x = head.pool(head.mask_roi_extractor, list(feats.values()), rois)
        probs = head.mask_head.probabilities(head.mask_head(x), detected['labels'] - 1)
        assert torch.allclose(probs, detected['masks'][:, 0], atol=1e-4)


def test_masks_are_pasted_where_torchvisions_are():
    """But for its rounding of boxes to whole pixels, of which a disc in a large box shows little."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 28), torch.linspace(-1, 1, 28), indexing='ij')
    disc = (1.2 - (x ** 2 + y ** 2)).clamp(0, 1)[None]
    boxes = torch.tensor([[10.3, 20.6, 90.2, 110.9]])
    theirs = detection.roi_heads.paste_masks_in_image(disc[None], boxes, SIZE)[:, 0] >= 0.5
    ours = paste_masks(disc, boxes, SIZE, 0.5).dense()
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.97


def test_the_second_versions_names_fit_a_model_with_norms():
    with torch.device('meta'):
        theirs = detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None)
    cfg = omnidet.load_config('torchvision/mask-rcnn_r50_fpn_coco').model
    norm = {'type': 'BN'}
    cfg.neck.norm_cfg = norm
    cfg.rpn_head.num_convs = 2
    cfg.roi_head.bbox_head.update(type='Shared4Conv1FCBBoxHead', norm_cfg=norm)
    cfg.roi_head.mask_head.norm_cfg = norm
    with torch.device('meta'):
        ours = omnidet.build_model(cfg)
    state = {k: torch.empty_like(v, device='cpu') for k, v in theirs.state_dict().items()}
    got = {k: v.shape for k, v in convert_torchvision_detection(state).items()}
    assert got == {k: v.shape for k, v in ours.state_dict().items()}


def _state(classes):
    """The last layers of a model, each row of which holds the number of its class."""
    numbers, sides = torch.arange(classes).float(), torch.tensor([0., 0.1, 0.2, 0.3])
    return {'roi_heads.box_predictor.cls_score.weight': numbers[:, None].expand(-1, 2),
            'roi_heads.box_predictor.cls_score.bias': numbers,
            'roi_heads.box_predictor.bbox_pred.bias': (numbers[:, None] + sides).flatten(),
            'roi_heads.mask_predictor.mask_fcn_logits.bias': numbers}


def test_background_becomes_the_last_class():
    got = convert_torchvision_detection(_state(4))
    assert got['roi_head.bbox_head.fc_cls.bias'].tolist() == [1, 2, 3, 0]
    assert got['roi_head.bbox_head.fc_cls.weight'].tolist() == [[1, 1], [2, 2], [3, 3], [0, 0]]
    assert got['roi_head.bbox_head.fc_reg.bias'][:5].tolist() == pytest.approx([1, 1.1, 1.2, 1.3, 2])
    assert got['roi_head.mask_head.conv_logits.bias'].tolist() == [1, 2, 3]


def test_cocos_classes_are_those_of_the_same_name():
    names = torchvision.models.detection.FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta['categories']
    assert tuple(names[i] for i in COCO_CATEGORIES) == COCO_CLASSES
    got = convert_torchvision_detection(_state(91), COCO_CATEGORIES)
    assert got['roi_head.bbox_head.fc_cls.bias'].tolist() == [*COCO_CATEGORIES, 0]
    assert got['roi_head.bbox_head.fc_reg.bias'].shape == (320,)


@pytest.mark.parametrize(('old', 'new'), [
    ('backbone.fpn.inner_blocks.2.weight', 'neck.lateral_convs.2.conv.weight'),
    ('backbone.fpn.layer_blocks.0.0.bias', 'neck.fpn_convs.0.conv.bias'),
    ('rpn.head.conv.weight', 'rpn_head.rpn_conv.weight'),
    ('rpn.head.conv.0.0.weight', 'rpn_head.rpn_conv.weight'),
    ('roi_heads.mask_head.mask_fcn1.bias', 'roi_head.mask_head.convs.0.conv.bias'),
    ('roi_heads.mask_head.0.0.bias', 'roi_head.mask_head.convs.0.conv.bias'),
    ('backbone.body.layer1.0.bn1.running_mean', 'backbone.layer1.0.bn1.running_mean'),
])
def test_names_of_old_and_new_files(old, new):
    assert new in convert_torchvision_detection({**_state(3), old: torch.zeros(1)})


def test_other_weights_are_told():
    with pytest.raises(CheckpointError, match=r'head\.classification_head'):
        convert_torchvision_detection({'head.classification_head.conv.weight': torch.zeros(1)})
    with pytest.raises(CheckpointError, match='no whole detector'):
        convert_torchvision_detection({'backbone.body.conv1.weight': torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r'\[0, 9\]'):
        convert_torchvision_detection(_state(4), [0, 1, 9])


@pytest.mark.parametrize('size', [(128, 192), (96, 160)])
def test_anchors_are_torchvisions(size):
    """Also where the coarsest grid is rounded up, so that its anchors lie closer."""
    theirs = detection.anchor_utils.AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)
    shapes = [(-(-size[0] // s), -(-size[1] // s)) for s in (4, 8, 16, 32, 64)]
    images = ImageList(torch.zeros(1, 3, *size), [size])
    want = theirs(images, [torch.zeros(1, 1, *shape) for shape in shapes])[0]
    ours = PRIORS.build({'type': 'TorchvisionAnchorGenerator', 'strides': [4, 8, 16, 32, 64],
                         'sizes': [32, 64, 128, 256, 512]})
    assert ours.num_base_priors == [3] * 5
    assert torch.equal(ours(shapes).boxes, want)

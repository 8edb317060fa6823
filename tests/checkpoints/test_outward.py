"""Our weights under other projects' names: their models take the files, and what comes back is what went out."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

import omnidet
from omnidet.checkpoints import load_checkpoint
from omnidet.checkpoints.megvii_yolox import convert_megvii_yolox
from omnidet.checkpoints.outward import PROJECTS, convert_outward
from omnidet.checkpoints.peers import convert_checkpoint
from omnidet.checkpoints.renaming import inverted, new_name
from omnidet.checkpoints.timm_backbones import from_timm, to_timm
from omnidet.cli import main
from omnidet.cli.checkpoint import TO_PROJECTS
from omnidet.errors import CheckpointError
from omnidet.registry import BACKBONES


@pytest.fixture
def timm():
    return pytest.importorskip('timm')


def filled(state):
    """Other numbers in every tensor, so that no two can be mistaken for each other."""
    generator = torch.Generator().manual_seed(0)
    return {k: torch.randn(v.shape, generator=generator) if v.is_floating_point() else
            torch.randint(9, v.shape, generator=generator) for k, v in state.items()}


def ours(name, **changes):
    cfg = omnidet.load_config(name).model
    for path, value in changes.items():
        *owners, last = path.split('__')
        part = cfg
        for owner in owners:
            part = part[owner]
        part[last] = value
    with torch.device('meta'):
        state = omnidet.build_model(cfg).state_dict()
    return filled(state)


def assert_same(got, want):
    assert got.keys() == want.keys()
    assert all(torch.equal(got[k], want[k]) for k in want)


SHARED = dict(type='Shared4Conv1FCBBoxHead', norm_cfg=dict(type='BN'), in_channels=256, fc_out_channels=1024,
              roi_feat_size=7, num_classes=3)


def retinanet_from_c5(weights, weights_backbone, num_classes):
    """torchvision's RetinaNet whose coarsest levels start from the backbone, as MMDetection's do."""
    backbone = resnet_fpn_backbone(backbone_name='resnet50', weights=None, returned_layers=[2, 3, 4],
                                   extra_blocks=LastLevelP6P7(2048, 256), norm_layer=torch.nn.BatchNorm2d)
    return detection.RetinaNet(backbone, num_classes)


@pytest.mark.parametrize(('config', 'changes', 'build'), [
    ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco', dict(roi_head__bbox_head__num_classes=3),
     detection.fasterrcnn_resnet50_fpn),
    ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco', dict(
        roi_head__bbox_head__num_classes=3, roi_head__mask_head__num_classes=3),
     detection.maskrcnn_resnet50_fpn),
    ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco', dict(
        roi_head__bbox_head=SHARED, neck__norm_cfg=dict(type='BN'), rpn_head__num_convs=2),
     detection.fasterrcnn_resnet50_fpn_v2),
    ('torchvision/retinanet_r50_fpn_coco', dict(bbox_head__num_classes=3), detection.retinanet_resnet50_fpn),
    ('retinanet/retinanet_r50_fpn_1x_coco', dict(bbox_head__num_classes=3), retinanet_from_c5),
])
def test_torchvisions_models_take_our_weights_and_give_them_back(config, changes, build):
    state = ours(config, **changes)
    model, theirs, unused = convert_outward(state, 'torchvision')
    assert unused == []
    peer = build(weights=None, weights_backbone=None, num_classes=4)
    peer.load_state_dict(theirs, strict=True)
    kept = peer.state_dict()
    assert all(torch.equal(kept[k], v) for k, v in theirs.items())    # torchvision renamed nothing of it
    back = convert_checkpoint(kept)
    assert back.peer.model == model and back.unused == []
    assert_same(back.state, state)


def test_torchvisions_background_is_class_0_with_boxes_of_nothing():
    numbers = torch.arange(4.)    # the background is the last
    state = {'rpn_head.rpn_cls.weight': torch.ones(1), 'roi_head.bbox_head.fc_cls.bias': numbers,
             'roi_head.bbox_head.fc_reg.bias': torch.arange(12.),
             'roi_head.mask_head.conv_logits.bias': torch.arange(3.),
             'roi_head.mask_head.conv_logits.weight': torch.arange(3.)}
    name, theirs, _ = convert_outward(state, 'torchvision')
    assert name == 'Mask R-CNN'
    assert theirs['roi_heads.box_predictor.cls_score.bias'].tolist() == [3, 0, 1, 2]
    assert theirs['roi_heads.box_predictor.bbox_pred.bias'].tolist() == [0, 0, 0, 0, *range(12)]
    assert theirs['roi_heads.mask_predictor.mask_fcn_logits.bias'].tolist() == [0, 0, 1, 2]
    state['roi_head.bbox_head.fc_reg.bias'] = torch.arange(4.)
    with pytest.raises(CheckpointError, match='4 rows, not 4 for each of 3 classes'):
        convert_outward(state, 'torchvision')


def test_torchvisions_unused_class_of_retinanet_is_never_predicted():
    state = {'bbox_head.retina_cls.bias': torch.arange(6.), 'bbox_head.retina_cls.weight': torch.ones(6, 2, 1, 1),
             'bbox_head.retina_reg.bias': torch.zeros(8)}
    _, theirs, _ = convert_outward(state, 'torchvision')
    logits = theirs['head.classification_head.cls_logits.bias']
    assert logits.tolist() == [-20, 0, 1, 2, -20, 3, 4, 5]
    assert theirs['head.classification_head.cls_logits.weight'].flatten(1).sum(1).tolist() == [0, 2, 2, 2, 0, 2, 2, 2]


@pytest.mark.parametrize('size', ['nano', 's'])
def test_yolox_comes_back_from_megviis_names(size):
    state = ours(f'yolox/yolox_{size}_8xb8-300e_coco')
    name, theirs, _ = convert_outward(state, 'megvii-yolox')
    assert name == 'YOLOX' and len(theirs) == len(state)
    for known in ('backbone.backbone.dark5.1.conv1.conv.weight', 'backbone.backbone.dark3.1.m.0.conv1.bn.weight',
                  'backbone.C3_n4.conv3.conv.weight', 'head.obj_preds.2.bias',
                  'backbone.backbone.stem.conv.conv.weight',
                  'head.cls_convs.0.1.dconv.bn.bias' if size == 'nano' else 'backbone.bu_conv2.conv.weight'):
        assert known in theirs, known
    back, unused = convert_megvii_yolox(theirs)
    assert unused == []
    assert_same(back, state)


BACKBONE_PAIRS = [
    ('resnet18', dict(type='ResNet', depth=18)), ('resnet50', dict(type='ResNet', depth=50)),
    ('resnext50_32x4d', dict(type='ResNeXt', depth=50, groups=32, base_width=4)),
    ('resnet50d', dict(type='ResNetV1d', depth=50)),
    ('convnext_tiny', dict(type='ConvNeXt', arch='tiny', out_indices=[3], gap_before_final_norm=False)),
    ('mobilenetv2_100', dict(type='MobileNetV2', out_indices=(7,))),
    ('swin_tiny_patch4_window7_224', dict(type='SwinTransformer', out_indices=(3,))),
]


@pytest.mark.parametrize(('name', 'cfg'), BACKBONE_PAIRS)
@torch.no_grad()
def test_timms_backbones_compute_with_our_weights_what_ours_do(timm, name, cfg):
    torch.manual_seed(0)
    mine = BACKBONES.build(cfg).eval()
    for norm in (m for m in mine.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_var.uniform_(0.5, 1.5)
        norm.running_mean.normal_(0, 0.1)
    state = mine.state_dict()
    _, theirs, unused = to_timm({f'backbone.{k}': v for k, v in state.items()} | {'neck.w': torch.ones(1)})
    assert unused == []
    swin = name.startswith('swin')    # of which timm does not shift windows where one is the whole map
    side, options = (448, dict(img_size=448)) if swin else (96, {})
    peer = timm.create_model(name, num_classes=0, pretrained=False, **options).eval()
    peer.load_state_dict(theirs, strict=True)
    image = torch.randn(1, 3, side, side)
    got, want = peer.forward_features(image), mine(image)[-1]
    if swin:
        got = got.permute(0, 3, 1, 2)    # timm puts channels last
    if name.startswith('convnext'):    # whose last norm is the classifier's there
        got = peer.head.norm(got)
    assert got.shape == want.shape and torch.allclose(got, want, atol=1e-4)
    _, back, unused = from_timm(peer.state_dict() | {'fc.weight' if 'resne' in name else 'head.fc.weight': image})
    assert len(unused) == 1
    assert_same(back, {k: v for k, v in state.items() if not k.endswith('relative_position_index')})


def test_norms_that_only_detectors_have_are_listed(timm):
    state = BACKBONES.build(dict(type='ConvNeXt', arch='atto', out_indices=[0, 1, 2, 3],
                                 gap_before_final_norm=False)).state_dict()
    _, theirs, unused = to_timm(state)
    assert sorted(unused) == [f'norm{i}.{k}' for i in range(3) for k in ('bias', 'weight')]
    timm.create_model('convnext_atto', num_classes=0, conv_mlp=False).load_state_dict(theirs, strict=True)


def test_what_another_project_lacks_is_an_error():
    with pytest.raises(CheckpointError, match=r"no model that becomes one of megvii-yolox: .*'w'.*Known are YOLOX"):
        convert_outward({'w': torch.ones(1)}, 'megvii-yolox')
    with pytest.raises(CheckpointError, match=r'no backbone that timm has.*ConvNeXt'):
        convert_outward({'w': torch.ones(1)}, 'timm')
    with pytest.raises(CheckpointError, match='no backbone that is converted from timm'):
        from_timm({'w': torch.ones(1)})
    state = ours('dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco')
    with pytest.raises(CheckpointError, match=r'no place for 26 .*backbone\.layer2\.0\.conv2\.conv_offset'):
        convert_outward(state, 'torchvision')


def test_a_table_is_turned_around():
    table = ((r'a\.(\d+)(\.0)?\.(w|b)$', r'x.\2'.replace('2', '1') + r'.\3'), (r'c\.', 'd.'), (r'e\.', lambda m: 'f.'))
    back = inverted(table)
    assert new_name('x.12.w', back) == 'a.12.0.w' and new_name('d.q', back) == 'c.q'
    assert new_name('x.1.q', back) is None and new_name('f.q', back) is None


def test_the_command_writes_what_the_other_project_reads(timm, tmp_path, capsys):
    assert TO_PROJECTS == PROJECTS
    mine = BACKBONES.build(dict(type='ResNet', depth=18))
    a, b, c = (str(tmp_path / name) for name in ('a.pth', 'b.pth', 'c.safetensors'))
    torch.save({'state_dict': {f'backbone.{k}': v for k, v in mine.state_dict().items()}}, a)
    assert main(['checkpoint', 'convert', a, b, '--to-project', 'timm']) == 0
    assert '120 tensors, ResNet of timm' in capsys.readouterr().out.replace('\n', '')
    state = torch.load(b, weights_only=True)
    timm.create_model('resnet18', num_classes=0).load_state_dict(state, strict=True)
    assert main(['checkpoint', 'convert', b, c, '--from', 'timm']) == 0
    mine.load_state_dict(load_checkpoint(c)['state_dict'])
    status = main(['checkpoint', 'convert', a, str(tmp_path / 'd.pth'), '--to-project', 'timm', '--classes', 'coco'])
    assert status == 2 and '--classes' in capsys.readouterr().err

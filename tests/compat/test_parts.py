"""Adapters between code written for MMDetection and ours, each held against a direct computation."""

from __future__ import annotations

import math
import pickle
import sys

import numpy as np
import pytest
import torch
from torch import nn

from omnidet import compat
from omnidet.compat.user_code import import_user_code
from omnidet.data import build_dataset
from omnidet.errors import ConfigError, DatasetError, OmniDetError
from omnidet.registry import BACKBONES, DATASETS, LOSSES, NECKS, TRANSFORMS


def load(*names: str) -> list:
    for name in names:
        import_user_code(name, '--import')
    return [sys.modules[n] for n in names]


def test_init_cfg_and_init_weights_are_followed_parents_first(folder):
    load('my_bifpn', 'old_bifpn', 'my_backbone')
    neck = NECKS.build(dict(type='MyBiFPN', in_channels=[16, 32], out_channels=16, num_outs=3))
    weight = neck.lateral[1].conv.weight
    bound = math.sqrt(6 / (32 + 16))
    assert 0.8 * bound < weight.abs().max() <= bound    # torch's own bound is sqrt(1 / 32), smaller by half
    old = NECKS.build(dict(type='OldBiFPN', in_channels=[16, 32], out_channels=16, num_outs=3, norm_cfg=None))
    assert (old.lateral[0].conv.bias == 0.25).all()
    net = BACKBONES.build(dict(type='StripedNet'))
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 5 and all((m.weight == 0.5).all() for m in norms)    # the block's word comes after the net's


def test_parts_build_on_the_meta_device(folder):
    load('my_bifpn')
    with torch.device('meta'):
        neck = NECKS.build(dict(type='MyBiFPN', in_channels=[16, 32], out_channels=16, num_outs=3))
    assert neck.lateral[0].conv.weight.is_meta


def test_a_mistake_in_a_user_s_part_is_said_with_its_line(folder):
    lines = ['import torch', 'from mmdet.registry import MODELS', '', '@MODELS.register_module()',
             'class Slip(torch.nn.Module):', '    def __init__(self, a):', '        super().__init__()',
             '        self.fc = torch.nn.Linear(a, "x")']
    (folder / 'my_slip.py').write_text('\n'.join(lines))
    load('my_slip')
    with pytest.raises(ConfigError, match=r'neck Slip cannot be made: .*my_slip\.py:8: TypeError'):
        NECKS.build(dict(type='Slip', a=3))


def test_losses_see_rows_and_give_back_a_batch(folder):
    (module,) = load('my_losses')
    loss = LOSSES.build(dict(type='SquaredBoxLoss', loss_weight=2.0))
    pred, target = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    weight = torch.rand(2, 5)
    found = loss(pred, target, weight, avg_factor=3.0)
    torch.testing.assert_close(found, 2 * ((pred - target) ** 2 * weight[..., None]).sum() / 3)
    assert module.SEEN['box'] == ((10, 4), (10, 4), (10, 4))
    each = loss(pred, target, weight, reduction_override='none')
    torch.testing.assert_close(each, 2 * (pred - target) ** 2 * weight[..., None])
    cls = LOSSES.build(dict(type='OneHotLoss'))
    logits, labels = torch.randn(2, 5, 3), torch.randint(0, 4, (2, 5))
    ours = LOSSES.build(dict(type='CrossEntropyLoss', use_sigmoid=True))
    found, wanted = (loss(logits, labels, weight, avg_factor=7.0) for loss in (cls, ours))
    torch.testing.assert_close(found, wanted)
    assert cls.use_sigmoid and type(cls).__name__ == 'OneHotLoss' and not loss.use_sigmoid


def test_helpers_of_losses():
    compat.install()
    from mmcv.ops import sigmoid_focal_loss
    from mmdet.models.losses import accuracy
    pred, target = torch.randn(6, 3), torch.tensor([0, 1, 2, 3, 3, 0])
    ours = LOSSES.build(dict(type='FocalLoss', use_sigmoid=True, reduction='sum'))
    torch.testing.assert_close(sigmoid_focal_loss(pred, target, 2.0, 0.25, None, 'sum'), ours(pred, target))
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    assert accuracy(scores, torch.tensor([1, 0, 0, 1])) == 50
    assert accuracy(scores, torch.tensor([1, 0, 0, 1]), topk=(1, 2))[1] == 100


def test_attention_is_that_of_torch_in_either_order():
    compat.install()
    from mmcv.cnn.bricks.transformer import MultiheadAttention
    torch.manual_seed(0)
    ours, theirs = MultiheadAttention(8, 2), nn.MultiheadAttention(8, 2)
    theirs.load_state_dict(ours.attn.state_dict())
    query, key, pos = torch.randn(5, 3, 8), torch.randn(7, 3, 8), torch.randn(5, 3, 8)
    padding = torch.zeros(3, 7, dtype=torch.bool)
    padding[:, 5:] = True
    wanted = query + theirs(query + pos, key, key, key_padding_mask=padding)[0]
    torch.testing.assert_close(ours(query, key, query_pos=pos, key_padding_mask=padding), wanted)
    first = MultiheadAttention(8, 2, batch_first=True)
    first.load_state_dict(ours.state_dict())
    found = first(query.transpose(0, 1), key.transpose(0, 1), query_pos=pos.transpose(0, 1), key_padding_mask=padding)
    torch.testing.assert_close(found.transpose(0, 1), wanted)
    mask = torch.rand(5, 5) < 0.3
    mask.fill_diagonal_(False)
    wanted = query + theirs(query, query, query, attn_mask=mask)[0]
    torch.testing.assert_close(ours(query, attn_mask=mask.repeat(6, 1, 1)), wanted)


def test_deformable_layers_with_offsets_of_zero_are_plain_ones():
    compat.install()
    from mmcv.ops import DeformConv2d, ModulatedDeformConv2d, MultiScaleDeformableAttention, deform_conv2d
    x = torch.randn(1, 4, 6, 6)
    offset = torch.zeros(1, 18, 6, 6)
    conv = DeformConv2d(4, 3, 3, padding=1)
    assert set(conv.state_dict()) == {'weight'}
    plain = nn.functional.conv2d(x, conv.weight, padding=1)
    torch.testing.assert_close(conv(x, offset), plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(deform_conv2d(x, offset, conv.weight, 1, 1), plain, rtol=1e-4, atol=1e-5)
    modulated = ModulatedDeformConv2d(4, 3, 3, padding=1, bias=False)
    modulated.load_state_dict(conv.state_dict())
    torch.testing.assert_close(modulated(x, offset, torch.full((1, 9, 6, 6), 0.5)), plain / 2, rtol=1e-4, atol=1e-5)
    attention = MultiScaleDeformableAttention(8, 2, 1, 2, dropout=0.0)
    query, identity = torch.randn(4, 1, 8), torch.randn(4, 1, 8)
    kwargs = dict(reference_points=torch.full((1, 4, 1, 2), 0.5), spatial_shapes=torch.tensor([[2, 2]]))
    value = torch.randn(4, 1, 8)
    difference = attention(query, value=value, identity=identity, **kwargs) - attention(query, value=value, **kwargs)
    torch.testing.assert_close(difference, identity - query, rtol=1e-4, atol=1e-5)


def test_suppression_gives_boxes_with_scores_and_indices():
    compat.install()
    from mmcv.ops import batched_nms, nms, soft_nms
    from mmdet.core import multiclass_nms
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    scores = torch.tensor([0.8, 0.9, 0.3])
    dets, index = nms(boxes, scores, 0.5)
    assert index.tolist() == [1, 2] and torch.equal(dets, torch.cat([boxes[index], scores[index, None]], 1))
    assert nms(boxes, scores, 0.5, score_threshold=0.5)[1].tolist() == [1]
    cfg = dict(type='nms', iou_threshold=0.5)
    assert batched_nms(boxes, scores, torch.tensor([0, 1, 0]), cfg)[1].tolist() == [1, 0, 2]
    assert batched_nms(boxes, scores, torch.tensor([0, 1, 0]), cfg, class_agnostic=True)[1].tolist() == [1, 2]
    dets, index = soft_nms(boxes, scores)
    assert index.tolist() == [1, 2, 0] and abs(dets[2, 4] - 0.8 * 0.1) < 1e-6    # the overlap is 0.9
    dets, labels = multiclass_nms(boxes, torch.stack([scores, scores / 2, 1 - scores], 1), 0.2, cfg)
    assert dets.shape == (3, 5) and labels.tolist() == [0, 1, 0]


def test_helpers_of_heads():
    compat.install()
    from mmdet.core import bbox2distance, distance2bbox, multi_apply, unmap
    from mmdet.models.utils import filter_scores_and_topk
    from mmdet.structures.bbox import bbox2roi, bbox_overlaps
    assert multi_apply(lambda a, b, c=0: (a + b, a * c), [1, 2], [3, 4], c=5) == ([4, 6], [5, 10])
    assert unmap(torch.tensor([7, 8]), 4, torch.tensor([False, True, False, True]), -1).tolist() == [-1, 7, -1, 8]
    a, b = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2], [0, 0, 4, 4]])
    torch.testing.assert_close(bbox_overlaps(a, b), torch.tensor([[1 / 3, 0.25]]))
    torch.testing.assert_close(bbox_overlaps(a, b, 'iof'), torch.tensor([[0.5, 1.0]]))
    torch.testing.assert_close(bbox_overlaps(a, b[1:], 'iof', is_aligned=True), torch.tensor([1.0]))
    assert isinstance(bbox_overlaps(a.numpy(), b.numpy()), np.ndarray)
    assert bbox2roi([a, b]).tolist() == [[0, 0, 0, 2, 2], [1, 1, 0, 3, 2], [1, 0, 0, 4, 4]]
    points, distances = torch.tensor([[5.0, 6.0]]), torch.tensor([[1.0, 2, 3, 4]])
    box = distance2bbox(points, distances)
    assert box.tolist() == [[4, 4, 8, 10]] and torch.equal(bbox2distance(points, box), distances)
    assert distance2bbox(points, distances, (7, 7)).tolist() == [[4, 4, 7, 7]]
    scores, labels, rows, more = filter_scores_and_topk(torch.tensor([[0.1, 0.9], [0.5, 0.2]]), 0.15, 2,
                                                        dict(x=torch.tensor([10, 11])))
    assert torch.allclose(scores, torch.tensor([0.9, 0.5])) and labels.tolist() == [1, 0]
    assert rows.tolist() == [0, 1] and more['x'].tolist() == [10, 11]


def results() -> dict:
    return dict(img=np.arange(24, dtype=np.uint8).reshape(2, 4, 3), img_shape=(2, 4), img_path='a.png',
                gt_bboxes=np.array([[0, 0, 1, 2], [1, 0, 2, 2], [2, 0, 4, 1]], np.float32),
                gt_bboxes_labels=np.array([3, 4, 5]), gt_ignore_flags=np.array([False, True, False]),
                instances=[{}], scale_factor=(0.5, 0.25))


def test_a_transform_of_3_x_gets_boxes_with_methods_and_flips_as_ours_does(folder):
    load('my_data')
    mine, ours = TRANSFORMS.build(dict(type='MirrorAlways')), TRANSFORMS.build(dict(type='RandomFlip', prob=1.0))
    a, b = mine(results()), ours(results())
    assert np.array_equal(a['gt_bboxes'], b['gt_bboxes']) and np.array_equal(a['img'], b['img'])
    assert type(a['gt_bboxes']) is np.ndarray and a['gt_bboxes'].dtype == np.float32
    assert type(mine).__name__ == 'MirrorAlways'    # the name by which skip_type_keys leaves it out
    again = pickle.loads(pickle.dumps(mine))
    assert type(again) is type(mine) and isinstance(again, sys.modules['my_data'].MirrorAlways)


def test_horizontal_boxes_do_as_their_names_say():
    compat.install()
    from mmdet.structures.bbox import HorizontalBoxes
    boxes = HorizontalBoxes(torch.tensor([[1.0, 2, 5, 4], [-3, -3, -1, -1]]))
    assert boxes.is_inside((10, 10)).tolist() == [True, False] and boxes.areas.tolist() == [8, 4]
    boxes.translate_((1, 0))
    boxes.rescale_((2, 1))
    assert boxes.tensor.tolist() == [[4, 2, 12, 4], [-4, -3, 0, -1]]
    boxes.clip_((10, 10))
    assert boxes.tolist() == [[4, 2, 10, 4], [0, 0, 0, 0]]
    assert HorizontalBoxes([[5, 5, 2, 4]], in_mode='cxcywh').tolist() == [[4, 3, 6, 7]]
    assert len(HorizontalBoxes.cat([boxes, boxes])) == 4 and boxes[boxes.areas.numpy() > 0].shape == (1, 4)


def test_a_transform_of_2_x_sees_its_keys_and_ours_come_back(folder):
    load('my_data')
    out = TRANSFORMS.build(dict(type='OldDropOdd'))(results())
    assert out['gt_bboxes'].tolist() == [[0, 0, 1, 2], [1, 0, 2, 2]]    # the second object to learn is left out
    assert out['gt_bboxes_labels'].tolist() == [3, 4] and out['gt_ignore_flags'].tolist() == [False, True]
    assert set(out) == set(results()) and out['scale_factor'] == (0.5, 0.25)


def test_data_sets_of_the_user_s_give_what_they_read(folder):
    load('my_data')
    import json
    lines = [dict(id=4, name='00001.png', width=64, height=64, weather='fog', boxes=[([1, 2, 30, 40], 3)]),
             dict(id=9, name='00002.png', width=64, height=64, weather='sun', boxes=[])]
    (folder / 'lines.json').write_text(json.dumps(lines))
    common = dict(ann_file='lines.json', data_root=str(folder), pipeline=[])
    new = build_dataset(dict(type='LinesDataset', data_prefix=dict(img='data/train'), **common))
    info = new.load(0)
    assert info['img_path'] == str(folder / 'data/train/00001.png') and info['weather'] == 'fog'
    assert info['instances'] == [dict(bbox=[1, 2, 30, 40], bbox_label=3, ignore_flag=0, age=7)]
    assert len(new) == 2 and new.classes[3] == 'star' and new.image_ids == [4, 9]
    old = build_dataset(dict(type='OldLinesDataset', img_prefix='data/train', **common))
    assert len(old) == 2 and old.classes[3] == 'star' and old.image_ids == [4, 9]    # an ignored box is no empty image
    info = old.load(0)
    assert info['img_path'] == str(folder / 'data/train/00001.png')
    assert [i['ignore_flag'] for i in info['instances']] == [0, 1]
    assert old.metainfo['palette'][5] == (5, 5, 5)


def test_a_coco_set_with_classes_of_2_x_and_one_with_methods_that_are_not_called(folder):
    compat.install()
    from mmdet.datasets import CocoDataset

    @DATASETS.register_module()
    class Round(CocoDataset):
        CLASSES = ('circle', 'square', 'triangle', 'star', 'cross', 'ring')

    @DATASETS.register_module()
    class Wrong(CocoDataset):
        def load_annotations(self, ann_file):
            return []
    cfg = dict(ann_file='data/annotations/val.json', data_prefix=dict(img='data/val'))
    assert build_dataset(dict(type='Round', **cfg)).classes == Round.CLASSES
    with pytest.raises(ConfigError, match=r'Wrong overrides load_annotations\(\) of CocoDataset.*load_data_list'):
        build_dataset(dict(type='Wrong', **cfg))


def test_an_annotation_file_is_data(folder):
    compat.install()
    import mmcv
    (folder / 'a.pkl').write_bytes(pickle.dumps([dict(filename='x.png', ann=dict(bboxes=np.ones((1, 4))))]))
    assert mmcv.load('a.pkl')[0]['filename'] == 'x.png'
    (folder / 'b.pkl').write_bytes(pickle.dumps(sys.exit))
    with pytest.raises(DatasetError, match=r'b\.pkl: it cannot be read'):
        mmcv.load('b.pkl')


def test_a_hook_that_is_none_is_refused():
    compat.install()
    from mmengine.registry import HOOKS

    @HOOKS.register_module()
    class NoHook:
        pass
    with pytest.raises(ConfigError, match=r'NoHook is no hook; a hook derives from omnidet\.engine\.hooks\.Hook'):
        HOOKS.build(dict(type='NoHook'))


def test_configs_and_options_of_scripts(folder, write):
    compat.install()
    import argparse

    from mmengine.config import Config, DictAction
    cfg = Config.fromfile(write())
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args(['--cfg-options', 'model.neck.num_outs=5', 'a=[1,2]'])
    cfg.merge_from_dict(args.cfg_options)
    cfg.model.neck.out_channels = 32
    cfg.dump('out.py')
    again = Config.fromfile('out.py')
    assert (again.model.neck.num_outs, again.model.neck.out_channels, again.a) == (5, 32, [1, 2])
    assert 'num_outs=5' in cfg.pretty_text


def test_a_script_of_inference_runs(folder, write):
    compat.install()
    from mmdet.apis import inference_detector, init_detector, show_result_pyplot
    from mmdet.models import build_detector
    from mmengine.config import Config
    from mmengine.runner import load_checkpoint, save_checkpoint
    cfg = Config.fromfile(write())
    model = build_detector(cfg.model)
    save_checkpoint(model, 'weights.pth')
    with torch.no_grad():
        model.bbox_head.retina_cls.bias.zero_()
    load_checkpoint(model, 'weights.pth')
    assert (model.bbox_head.retina_cls.bias < -1).all()
    detector = init_detector('cfg.py', 'weights.pth', device='cpu', cfg_options={'model.test_cfg.score_thr': 0.0})
    found = inference_detector(detector, 'data/val/00001.png')
    assert len(found.pred_instances) == 10 and found.pred_instances.bboxes.shape == (10, 4)
    assert found.ori_shape == (64, 64)
    best = found.pred_instances[found.pred_instances.scores > found.pred_instances.scores[3]]
    assert len(best) == 3 and len(inference_detector(detector, ['data/val/00001.png'] * 2)) == 2
    picture = show_result_pyplot(detector, 'data/val/00001.png', found, score_thr=0, out_file='shown/a.png')
    assert picture.shape == (64, 64, 3) and (folder / 'shown' / 'a.png').is_file()


def test_a_detector_of_the_user_s_may_pass_its_parts_in_mmdetection_s_order(folder, write):
    compat.install()
    from mmdet.models import DETECTORS, SingleStageDetector, build_detector

    from omnidet.config import load_config

    @DETECTORS.register_module()
    class MyDetector(SingleStageDetector):
        def __init__(self, backbone, neck, bbox_head, train_cfg=None, test_cfg=None, data_preprocessor=None,
                     init_cfg=None):
            super().__init__(backbone, neck, bbox_head, train_cfg, test_cfg, data_preprocessor, init_cfg)
    cfg = load_config(write("\nmodel['type'] = 'MyDetector'\n"))
    model = build_detector(cfg)
    assert type(model).__name__ == 'MyDetector' and len(model.extract_feat(torch.zeros(1, 3, 64, 64))) == 4


def test_functions_run_in_float32_where_that_is_forced():
    compat.install()
    from mmcv.runner import auto_fp16, force_fp32

    class Head(nn.Module):
        @force_fp32(apply_to=('x',))
        def loss(self, x, y=None):
            return (x @ x).dtype, None if y is None else y[0].dtype

        @auto_fp16(out_fp32=True)
        def forward(self, x):
            return (x @ x).dtype
    head, half = Head(), torch.ones(2, 2, dtype=torch.bfloat16)
    with torch.autocast('cpu', torch.bfloat16):
        assert head.loss(half, y=[half]) == (torch.float32, torch.float32)
        assert head(half.float()) == torch.bfloat16


def test_a_file_with_relative_imports_that_is_broken_names_its_line(folder):
    (folder / 'wrong.py').write_text('from ..builder import NECKS\nfrom .nowhere import x\n')
    with pytest.raises(OmniDetError, match=r"wrong\.py:2: mmdet\.models\.necks\.nowhere has no 'x' here"):
        import_user_code('wrong', '--import')
    assert 'wrong' not in sys.modules
    with pytest.raises(OmniDetError, match=r'--import no/such\.py: there is no such file'):
        import_user_code('no/such.py', '--import')

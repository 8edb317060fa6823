"""YOLOX's augmentations: where the other images come to lie, and where an affine transform takes boxes."""

import math

import cv2
import numpy as np
import pytest

from omnidet.data.loader import build_dataset, build_loader
from omnidet.data.transforms import build_transform, seeded
from omnidet.data.transforms.multi_image import RandomAffine, move_boxes
from omnidet.errors import ConfigError


def plain(colour, size=(40, 40), box=(5, 10, 25, 30)):
    h, w = size
    boxes = np.array([box] if box else [], np.float32).reshape(-1, 4)
    return dict(img=np.full((h, w, 3), colour, np.uint8), img_shape=(h, w), gt_bboxes=boxes,
                gt_bboxes_labels=np.full(len(boxes), colour), gt_ignore_flags=np.zeros(len(boxes), bool))


def test_mosaic_puts_the_others_to_the_other_corners_in_their_order():
    mosaic = build_transform(dict(type='Mosaic', img_scale=(40, 40), center_ratio_range=(1.0, 1.0)))
    out = mosaic({**plain(50), 'mix_results': [plain(10), plain(20), plain(30, size=(20, 40), box=(0, 0, 40, 20))]})
    img = out['img']
    assert out['img_shape'] == (80, 80)
    assert (img[:40, :40] == 50).all() and (img[:40, 40:] == 10).all() and (img[40:, :40] == 20).all()
    assert (img[40:60, 40:] == 30).all() and (img[60:, 40:] == 114).all()
    assert out['gt_bboxes'].tolist() == [[5, 10, 25, 30], [45, 10, 65, 30], [5, 50, 25, 70], [40, 40, 80, 60]]
    assert out['gt_bboxes_labels'].tolist() == [50, 10, 20, 30] and len(out['gt_ignore_flags']) == 4


def test_mosaic_with_no_probability_leaves_the_image():
    out = build_transform(dict(type='Mosaic', prob=0.0))(plain(50))
    assert out['img'].shape == (40, 40, 3)


def test_mixup_averages_and_keeps_the_boxes_of_both():
    mixup = build_transform(dict(type='MixUp', img_scale=(40, 40), ratio_range=(1.0, 1.0), flip_ratio=0.0))
    out = mixup({**plain(50), 'mix_results': [plain(101, box=(0, 0, 10, 10))]})
    assert (out['img'] == 75).all() and out['gt_bboxes'].tolist() == [[5, 10, 25, 30], [0, 0, 10, 10]]
    without = mixup({**plain(50), 'mix_results': [plain(101, box=None)]})
    assert (without['img'] == 50).all() and len(without['gt_bboxes']) == 1


def test_mixup_asks_for_an_image_with_boxes():
    class Images:
        def __len__(self):
            return 20

        def get_cat_ids(self, index):
            return [1] if index == 7 else []

    mixup = build_transform(dict(type='MixUp', max_iters=1000))
    for seed in range(5):
        with seeded(seed):
            assert mixup.get_indexes(Images()) == [7]


@pytest.mark.parametrize('kind', ['Mosaic', 'MixUp'])
def test_mixing_without_other_images_says_what_is_missing(kind):
    with pytest.raises(ConfigError, match=f'{kind} needs .* MultiImageMixDataset'):
        build_transform(dict(type=kind))(plain(50))


def still(**options):
    return RandomAffine(**{'max_rotate_degree': 0.0, 'max_translate_ratio': 0.0, 'scaling_ratio_range': (1.0, 1.0),
                           'max_shear_degree': 0.0, **options})


def test_affine_without_motion_cuts_to_the_border():
    results = plain(50, size=(80, 80), box=(5, 10, 60, 30))
    results['gt_bboxes'] = np.array([[5, 10, 60, 30], [50, 50, 70, 70]], np.float32)
    results.update(gt_bboxes_labels=np.array([1, 2]), gt_ignore_flags=np.zeros(2, bool))
    out = still(border=(-20, -20)).transform(results)
    assert out['img'].shape == (40, 40, 3) and out['img_shape'] == (40, 40)
    assert out['gt_bboxes'].tolist() == [[5, 10, 40, 30]] and out['gt_bboxes_labels'].tolist() == [1]


def test_affine_scales_about_the_corner_and_fills():
    out = still(scaling_ratio_range=(0.5, 0.5), border_val=(1, 2, 3)).transform(plain(50))
    assert out['gt_bboxes'].tolist() == [[2.5, 5, 12.5, 15]]
    assert (out['img'][:19, :19] == 50).all() and (out['img'][21:] == [1, 2, 3]).all()


def test_box_is_upright_around_its_moved_corners():
    a = math.radians(30)
    turn = np.array([[math.cos(a), -math.sin(a), 5], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    got = move_boxes(np.array([[0, 0, 10, 20]], np.float32), turn)[0]
    assert got.tolist() == pytest.approx([5 - 20 * math.sin(a), 0, 5 + 10 * math.cos(a),
                                          10 * math.sin(a) + 20 * math.cos(a)], abs=1e-5)


def test_affine_boxes_lie_on_what_is_painted(painted):
    affine = build_transform(dict(type='RandomAffine', max_rotate_degree=0.0, max_shear_degree=0.0,
                                  scaling_ratio_range=(0.7, 1.3), border_val=(0, 0, 0)))
    for seed in range(10):
        results = painted()
        del results['gt_masks']
        with seeded(seed):
            out = affine(results)
        for box, label in zip(out['gt_bboxes'], out['gt_bboxes_labels'], strict=True):
            shown = (np.abs(out['img'][..., 0].astype(int) - (100, 180)[label]) < 25).astype(np.uint8)
            x, y, w, h = cv2.boundingRect(cv2.morphologyEx(shown, cv2.MORPH_OPEN, np.ones((4, 4), np.uint8)))
            assert np.abs(np.array([x, y, x + w, y + h]) - box).max() <= 2.0


def test_matrix_stays_within_its_ranges():
    affine = RandomAffine(max_shear_degree=0.0)
    for seed in range(50):
        with seeded(seed):
            m = affine.matrix((100, 200))
        scale = math.hypot(m[0, 0], m[1, 0])
        assert 0.5 <= scale <= 1.5 and abs(math.degrees(math.atan2(m[1, 0], m[0, 0]))) <= 10.001
        assert abs(m[0, 2]) <= 20 and abs(m[1, 2]) <= 10


def test_affine_refuses_masks(painted):
    with pytest.raises(ConfigError, match='no masks'):
        build_transform(dict(type='RandomAffine'))(painted())


PIPELINE = [dict(type='Mosaic', img_scale=(64, 64)), dict(type='RandomAffine', border=(-32, -32)),
            dict(type='MixUp', img_scale=(64, 64)), dict(type='YOLOXHSVRandomAug'),
            dict(type='RandomFlip', prob=0.5), dict(type='Resize', scale=(64, 64), keep_ratio=True),
            dict(type='Pad', pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0))),
            dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False), dict(type='PackDetInputs')]


def mixed(make_coco):
    inner = make_coco([[(5, 5, 30, 30, 10)], [(20, 10, 30, 30, 20), (1, 1, 9, 9, 10)], [(10, 5, 40, 40, 20)]])
    inner['pipeline'] = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
    return dict(type='MultiImageMixDataset', dataset=inner, pipeline=PIPELINE)


def test_yolox_pipeline_gives_equal_samples_for_equal_keys(make_coco):
    a, b = build_dataset(mixed(make_coco)), build_dataset(mixed(make_coco))
    for key in [(0, 0), (0, 1), (1, 0)]:
        x, y = a[key], b[key]
        assert x.image.shape == (3, 64, 64) and (x.image == y.image).all()
        assert np.array_equal(x.target['boxes'], y.target['boxes']) and len(x.target['boxes']) > 0
    assert not np.array_equal(a[0, 0].image, a[1, 0].image)


def test_skipped_transforms_leave_whole_images(make_coco):
    loader = build_loader(dict(batch_size=1, dataset=mixed(make_coco), sampler=dict(type='DefaultSampler',
                                                                                     shuffle=False)), train=True)
    loader.skip_transforms(('Mosaic', 'RandomAffine', 'MixUp', 'YOLOXHSVRandomAug', 'RandomFlip'))
    batches = list(loader)
    assert [b.targets.valid.sum().item() for b in batches] == [1, 2, 1]
    assert batches[0].targets.boxes[0, 0].tolist() == [5, 5, 35, 35] and batches[0].images.shape[-2:] == (64, 64)
    assert (batches[0].images[..., 48:, :] == 114).all()


def test_a_data_set_that_mixes_nothing_cannot_skip(make_coco):
    loader = build_loader(dict(batch_size=1, dataset={**make_coco([[(5, 5, 30, 30, 10)]]), 'pipeline': []}), train=True)
    with pytest.raises(ConfigError, match='CocoDataset cannot leave out'):
        loader.skip_transforms(('Mosaic',))

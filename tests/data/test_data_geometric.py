import numpy as np
import pytest

from omnidet.data.masks import BitmapMasks
from omnidet.data.transforms import build_transform, seeded
from omnidet.errors import ConfigError


def run(results, **cfg):
    with seeded(cfg.pop('seed', 0)):
        return build_transform(cfg)(results)


def blank(h, w):
    return dict(img=np.zeros((h, w, 3), np.uint8))


@pytest.mark.parametrize('shape, expected', [((427, 640), (800, 1199)), ((288, 512), (750, 1333)),
                                             ((788, 1400), (750, 1333)), ((640, 427), (1199, 800))])
def test_resize_with_kept_ratio_fits_both_bounds_and_rounds_to_nearest(shape, expected):
    out = run(blank(*shape), type='Resize', scale=(1333, 800), keep_ratio=True)
    assert out['img'].shape[:2] == out['img_shape'] == expected
    assert out['scale_factor'] == pytest.approx((expected[1] / shape[1], expected[0] / shape[0]))


def test_fix_scale_resize_rounds_down():
    out = run(blank(288, 512), type='FixScaleResize', scale=(800, 1333), keep_ratio=True)
    assert out['img_shape'] == (749, 1333)


def test_resize_without_kept_ratio_takes_width_first():
    out = run(blank(30, 40), type='Resize', scale=(100, 50), keep_ratio=False)
    assert out['img'].shape[:2] == (50, 100)
    assert out['scale_factor'] == (2.5, 50 / 30)


def test_resize_by_factor_and_interpolation():
    results = dict(img=np.array([[[0], [255]]], np.uint8))
    out = run(results, type='Resize', scale_factor=(2, 1), interpolation='nearest')
    assert out['img'].squeeze().tolist() == [0, 0, 255, 255]


def test_resize_scales_boxes_and_cuts_them_to_the_image():
    results = dict(blank(10, 10), gt_bboxes=np.array([[1, 2, 12, 4]], np.float32))
    assert run(dict(results), type='Resize', scale=(20, 30))['gt_bboxes'].tolist() == [[2, 6, 20, 12]]
    out = run(dict(results), type='Resize', scale=(20, 30), clip_object_border=False)
    assert out['gt_bboxes'].tolist() == [[2, 6, 24, 12]]


def test_random_resize_stays_within_its_range_and_reaches_across_it():
    widths = {run(blank(100, 100), type='RandomResize', scale=(100, 100), ratio_range=(0.5, 2.0), keep_ratio=True,
                  seed=s)['img_shape'][1] for s in range(60)}
    assert 50 <= min(widths) < 70 and 170 < max(widths) <= 200


def test_random_choice_resize_takes_one_of_the_scales():
    shapes = {run(blank(20, 20), type='RandomChoiceResize', scales=[(40, 40), (60, 60)], keep_ratio=True,
                  seed=s)['img_shape'] for s in range(20)}
    assert shapes == {(40, 40), (60, 60)}


@pytest.mark.parametrize('direction, box', [('horizontal', [2, 1, 7, 3]), ('vertical', [3, 5, 8, 7]),
                                            ('diagonal', [2, 5, 7, 7])])
def test_flip_mirrors_boxes_and_pixels(direction, box):
    results = dict(blank(8, 10), gt_bboxes=np.array([[3, 1, 8, 3]], np.float32))
    results['img'][1:3, 3:8] = 9
    out = run(results, type='RandomFlip', prob=1.0, direction=direction)
    x1, y1, x2, y2 = box
    assert out['gt_bboxes'].tolist() == [box]
    assert (out['img'][y1:y2, x1:x2] == 9).all() and (out['img'] == 9).sum() == 30
    assert out['flip'] and out['flip_direction'] == direction


def test_flip_shares_its_probability_among_directions():
    flip = build_transform(dict(type='RandomFlip', prob=[0.5, 0.3], direction=['horizontal', 'vertical']))
    with seeded(1):
        drawn = [flip(blank(2, 2))['flip_direction'] for _ in range(2000)]
    shares = [drawn.count(d) / 2000 for d in ('horizontal', 'vertical', None)]
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=0.04)


@pytest.mark.parametrize('options, expected', [
    (dict(size=(50, 40)), (40, 50)), (dict(size=(5, 40)), (40, 30)), (dict(size_divisor=16), (32, 32)),
    (dict(pad_to_square=True), (30, 30)), (dict(pad_to_square=True, size_divisor=32), (32, 32))])
def test_pad_sizes(options, expected):
    out = run(blank(20, 30), type='Pad', **options)
    assert out['img'].shape[:2] == out['img_shape'] == out['pad_shape'] == expected


def test_pad_fills_image_and_semantic_map_at_the_right_and_bottom():
    results = dict(blank(2, 2), gt_seg_map=np.zeros((2, 2), np.uint8))
    out = run(results, type='Pad', size=(3, 3), pad_val=dict(img=(1, 2, 3)))
    assert out['img'][2, 0].tolist() == out['img'][0, 2].tolist() == [1, 2, 3]
    assert out['img'][:2, :2].max() == 0
    assert out['gt_seg_map'].tolist() == [[0, 0, 255], [0, 0, 255], [255, 255, 255]]


@pytest.mark.parametrize('options, heights, widths', [
    (dict(crop_size=(30, 10)), {10}, {30}), (dict(crop_size=(500, 500)), {40}, {60}),
    (dict(crop_size=(0.5, 0.25), crop_type='relative'), {10}, {30}),
    (dict(crop_size=(10, 20), crop_type='absolute_range'), set(range(10, 21)), set(range(10, 21))),
    (dict(crop_size=(0.5, 0.25), crop_type='relative_range'), set(range(10, 41)), set(range(30, 61)))])
def test_crop_sizes(options, heights, widths):
    shapes = [run(blank(40, 60), type='RandomCrop', seed=s, **options)['img_shape'] for s in range(40)]
    assert {h for h, _ in shapes} <= heights and {w for _, w in shapes} <= widths
    if len(heights) > 1:
        assert len({h for h, _ in shapes}) > 3


def test_crop_moves_and_cuts_boxes_and_drops_those_outside():
    crop = build_transform(dict(type='RandomCrop', crop_size=(10, 10)))
    results = dict(blank(20, 20), gt_bboxes=np.array([[2, 3, 8, 9], [0, 0, 5, 5], [12, 12, 14, 14]], np.float32),
                   gt_bboxes_labels=np.array([7, 8, 9]), gt_ignore_flags=np.zeros(3, bool))
    out = crop._crop(results, (5, 5, 15, 15))
    assert out['gt_bboxes'].tolist() == [[0, 0, 3, 4], [7, 7, 9, 9]]    # the second ends where the crop begins
    assert out['gt_bboxes_labels'].tolist() == [7, 9] and out['img_shape'] == (10, 10)


def test_crop_without_a_box_left_drops_the_image_unless_allowed():
    results = dict(blank(20, 20), gt_bboxes=np.zeros((0, 4), np.float32))
    assert run(dict(results), type='RandomCrop', crop_size=(5, 5)) is None
    assert run(dict(results), type='RandomCrop', crop_size=(5, 5), allow_negative_crop=True)['img_shape'] == (5, 5)


def test_crop_recomputes_boxes_from_masks():
    mask = np.zeros((1, 20, 20), np.uint8)
    mask[0, 6:8, 6:8] = 1    # far smaller than its box
    results = dict(blank(20, 20), gt_bboxes=np.array([[0, 0, 20, 20]], np.float32),
                   gt_bboxes_labels=np.zeros(1, int), gt_ignore_flags=np.zeros(1, bool),
                   gt_masks=BitmapMasks(mask, 20, 20))
    crop = build_transform(dict(type='RandomCrop', crop_size=(10, 10), recompute_bbox=True))
    assert crop._crop(results, (5, 5, 15, 15))['gt_bboxes'].tolist() == [[1, 1, 3, 3]]


@pytest.mark.parametrize('kind', ['bitmap', 'polygon'])
@pytest.mark.parametrize('cfg', [
    dict(type='Resize', scale=(160, 120)), dict(type='Resize', scale=(40, 45)),
    dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=1.0, direction='vertical'),
    dict(type='RandomFlip', prob=1.0, direction='diagonal'), dict(type='Pad', size=(100, 90)),
    dict(type='RandomCrop', crop_size=(50, 40)), dict(type='RandomCrop', crop_size=(30, 30), seed=3)],
    ids=lambda cfg: f'{cfg["type"]}-{list(cfg.values())[1]}-{cfg.get("direction", "")}')
def test_boxes_and_masks_stay_on_the_painted_objects(painted, kind, cfg):
    out = run(painted(kind), **cfg)
    masks = out['gt_masks'].to_ndarray().astype(bool)
    assert masks.shape == (len(out['gt_bboxes']), *out['img'].shape[:2]) and len(masks)
    around = out['gt_masks'].get_bboxes()
    assert np.abs(around - out['gt_bboxes']).max() <= 1.01
    for mask, label, (x1, y1, x2, y2) in zip(masks, out['gt_bboxes_labels'], out['gt_bboxes'], strict=True):
        colour = (100, 180)[label]
        inner = mask.copy()
        inner[~np.isin(np.arange(mask.shape[0]), np.arange(np.ceil(y1) + 2, np.floor(y2) - 2))] = False
        inner[:, ~np.isin(np.arange(mask.shape[1]), np.arange(np.ceil(x1) + 2, np.floor(x2) - 2))] = False
        if inner.any():
            assert (out['img'][inner] == colour).all()
        assert mask.sum() == pytest.approx((out['img'][..., 0] == colour).sum(), rel=0.25)


@pytest.mark.parametrize('cfg', [
    dict(type='Resize'), dict(type='Resize', scale='big'), dict(type='Pad'), dict(type='RandomFlip', prob=1.4),
    dict(type='RandomFlip', prob=0.5, direction='sideways'),
    dict(type='RandomCrop', crop_size=(2, 2), crop_type='relative'),
    dict(type='RandomResize', scale=(10, 10)), dict(type='Rezise', scale=(1, 1)), dict(type='Resize', scail=(1, 1))])
def test_nonsense_arguments_are_refused(cfg):
    with pytest.raises(ConfigError):
        build_transform(cfg)

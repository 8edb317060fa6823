import cv2
import numpy as np
import pytest

from omnidet.data.transforms import build_transform, seeded
from omnidet.data.transforms.color import shift_hsv
from omnidet.data.transforms.mix import Memory, blend


def plain(colour, size=(40, 40), box=(5, 10, 25, 30)):
    h, w = size
    img = np.full((h, w, 3), colour, np.uint8)
    boxes = np.array([box] if box else [], np.float32).reshape(-1, 4)
    return dict(img=img, img_shape=(h, w), gt_bboxes=boxes, gt_bboxes_labels=np.full(len(boxes), colour),
                gt_ignore_flags=np.zeros(len(boxes), bool))


def filled_mosaic(colours=(10, 20, 30, 40), **options):
    mosaic = build_transform(dict(type='CachedMosaic', img_scale=(40, 40), **options))
    for colour in colours:
        mosaic.remember(plain(colour))
    return mosaic


def test_mosaic_leaves_the_image_alone_until_five_are_remembered():
    mosaic = filled_mosaic((1, 2, 3))
    with seeded(0):
        assert mosaic(plain(4))['img'].shape == (40, 40, 3)
        assert mosaic(plain(5))['img'].shape == (80, 80, 3)


def test_mosaic_with_its_centre_in_the_middle_has_hand_worked_coordinates():
    mosaic = filled_mosaic(center_ratio_range=(1.0, 1.0))
    with seeded(3):
        out = mosaic(plain(50))
    assert out['img_shape'] == (80, 80)
    assert (out['img'][:40, :40] == 50).all()    # the image itself is at the top left
    assert out['gt_bboxes'].tolist() == [[5, 10, 25, 30], [45, 10, 65, 30], [5, 50, 25, 70], [45, 50, 65, 70]]
    corners = [out['img'][0, 40, 0], out['img'][40, 0, 0], out['img'][40, 40, 0]]
    assert out['gt_bboxes_labels'].tolist() == [50, *map(int, corners)]


def test_mosaic_cuts_what_leaves_the_canvas_and_drops_boxes_outside():
    mosaic = filled_mosaic(center_ratio_range=(0.5, 0.5))    # centre at (20, 20): only a quarter of the first is seen
    with seeded(3):
        out = mosaic(plain(50, box=(5, 5, 15, 15)))    # lies in the part that is cut off
    assert 50 not in out['gt_bboxes_labels']
    assert (out['img'][:20, :20] == 50).all() and (out['img'][60:, 60:] == 114).all()
    assert out['gt_bboxes'].tolist() == [[25, 0, 45, 10], [0, 30, 5, 50], [25, 30, 45, 50]]


@pytest.mark.parametrize('kind', ['bitmap', 'polygon'])
def test_mosaic_boxes_and_masks_lie_on_what_is_painted(painted, kind):
    mosaic = build_transform(dict(type='CachedMosaic', img_scale=(64, 64)))
    for n in range(5):
        mosaic.remember(painted(kind, size=(50 + 10 * n, 90), colours=(100, 180)))
    for seed in range(10):
        with seeded(seed):
            out = mosaic(painted(kind))
        masks = out['gt_masks'].to_ndarray().astype(bool)
        assert masks.shape == (len(out['gt_bboxes']), 128, 128)
        assert np.abs(out['gt_masks'].get_bboxes() - out['gt_bboxes']).max() <= 1.5
        for mask, label in zip(masks, out['gt_bboxes_labels'], strict=True):
            core = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=0).astype(bool)
            assert (out['img'][core] == (100, 180)[label]).all()
        assert (out['img'] == 114).any()


def test_what_is_remembered_survives_changes_in_place():
    mosaic = filled_mosaic((), prob=0.0)
    out = mosaic(plain(7))
    out['img'][:] = 0
    out['gt_bboxes'][:] = 0
    assert (mosaic.memory.items[0]['img'] == 7).all() and mosaic.memory.items[0]['gt_bboxes'].max() == 30


@pytest.mark.parametrize('random_pop', [True, False])
def test_memory_never_forgets_the_newest(random_pop):
    memory = Memory(5, random_pop)
    with seeded(0):
        for n in range(50):
            memory.add(dict(img=n))
            assert memory.items[-1]['img'] == n and len(memory.items) <= 5
    kept = [item['img'] for item in memory.items]
    assert (kept == [45, 46, 47, 48, 49]) is (not random_pop)


def test_mixup_averages_and_keeps_the_boxes_of_both():
    mixup = build_transform(dict(type='CachedMixUp', img_scale=(40, 40), ratio_range=(1.0, 1.0), flip_ratio=0.0))
    mixup.remember(plain(101, box=(0, 0, 10, 10)))
    for seed in range(8):
        mixup.memory.items[1:] = []
        with seeded(seed):
            out = mixup(plain(50))
        other = out['gt_bboxes_labels'].tolist()[1]    # it may draw itself
        assert out['gt_bboxes'].tolist() == [[5, 10, 25, 30], [0, 0, 10, 10] if other == 101 else [5, 10, 25, 30]]
        assert (out['img'] == (50 + other) // 2).all()


def test_mixup_mirrors_and_resizes_the_other_image():
    mixup = build_transform(dict(type='CachedMixUp', img_scale=(40, 40), ratio_range=(0.5, 0.5), flip_ratio=1.0,
                                 pad_val=0))
    mixup.memory.items = [plain(200, size=(20, 40), box=(0, 0, 10, 20))]
    with seeded(0):
        other = mixup._fit(mixup.memory.items[0], (40, 40))
    assert other['gt_bboxes'].tolist() == [[15, 0, 20, 10]]    # 40x40 canvas halved, then mirrored within its 20 pixels
    assert (other['img'][:9, :20] == 200).all() and (other['img'][12:] == 0).all() and (other['img'][:, 20:] == 0).all()


def test_mixup_wants_an_image_with_boxes():
    mixup = build_transform(dict(type='CachedMixUp', img_scale=(40, 40)))
    for _ in range(3):
        mixup.remember(plain(99, box=None))
    with seeded(0):
        out = mixup(plain(50, box=None))
    assert (out['img'] == 50).all() and len(out['gt_bboxes']) == 0


@pytest.mark.parametrize('kind', ['bitmap', 'polygon'])
def test_mixup_boxes_and_masks_agree(painted, kind):
    mixup = build_transform(dict(type='CachedMixUp', img_scale=(90, 70), ratio_range=(0.6, 1.6)))
    mixup.remember(painted(kind, size=(70, 60), boxes=((10, 8, 40, 60),)))
    for seed in range(10):
        mixup.memory.items[1:] = []
        with seeded(seed):
            out = mixup(painted(kind))
        assert np.abs(out['gt_masks'].get_bboxes() - out['gt_bboxes']).max() <= 2
        assert out['gt_masks'].to_ndarray().shape == (len(out['gt_bboxes']), 60, 80)


def test_blend_rounds_down_like_a_cast():
    a, b = (np.arange(256, dtype=np.uint8)[:, None].repeat(256, 1) for _ in range(2))
    b = b.T.copy()
    assert (blend(a, b) == (a.astype(int) + b) // 2).all()


@pytest.mark.parametrize('gains', [(5, 0, 0), (-5, 30, -30), (0, -30, 30)])
def test_hsv_shift_equals_integer_arithmetic(gains):
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(int)
    hsv[..., 0] = (hsv[..., 0] + gains[0]) % 180
    hsv[..., 1:] = np.clip(hsv[..., 1:] + gains[1:], 0, 255)
    expected = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR)
    assert (shift_hsv(image, *gains) == expected).all()


def test_hsv_augmentation_changes_colours_and_keeps_size_and_type():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    aug = build_transform(dict(type='YOLOXHSVRandomAug'))
    changed = 0
    for seed in range(16):
        with seeded(seed):
            out = aug(dict(img=image.copy()))['img']
        assert out.shape == image.shape and out.dtype == np.uint8
        changed += bool((out != image).any())
    assert 8 <= changed <= 16

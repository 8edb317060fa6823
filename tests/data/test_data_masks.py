import cv2
import numpy as np
import pytest

from omnidet.data.masks import BitmapMasks, PolygonMasks
from omnidet.data.outlines import clip_polygon, decode_rle, rasterise, uncompress_counts

TRIANGLE = [2.0, 2.0, 12.0, 2.0, 2.0, 10.0]
SQUARE = [10.0, 10.0, 16.0, 10.0, 16.0, 16.0, 10.0, 16.0]


def naive_decode(size, counts):
    h, w = size
    out = np.zeros((h, w), np.uint8)
    at, value = 0, 0
    for run in counts:
        for _ in range(run):
            out[at % h, at // h] = value
            at += 1
        value = 1 - value
    return out


def test_uncompressed_runs_go_down_the_columns():
    counts = [3, 2, 4, 5, 6]
    assert (decode_rle(dict(size=[4, 5], counts=counts)) == naive_decode((4, 5), counts)).all()


@pytest.mark.parametrize('seed', range(6))
def test_compressed_runs_equal_cocos_own(seed):
    mask_api = pytest.importorskip('faster_coco_eval.core.mask')
    rng = np.random.default_rng(seed)
    mask = (rng.random((37, 211)) < (0.02, 0.5, 0.98)[seed % 3]).astype(np.uint8)
    if seed > 3:
        mask[:, 40:180] = seed % 2    # long runs, which need several characters
    rle = mask_api.encode(np.asfortranarray(mask))
    assert (decode_rle(rle) == mask).all()
    assert uncompress_counts(rle['counts']).sum() == mask.size


def test_runs_that_do_not_fill_the_mask_are_an_error():
    with pytest.raises(ValueError, match='add up'):
        decode_rle(dict(size=[4, 5], counts=[3, 2]))


@pytest.mark.parametrize('seed', range(40))
def test_polygons_are_rasterised_in_their_window_as_coco_does_in_the_whole_image(seed):
    mask_api = pytest.importorskip('faster_coco_eval.core.mask')
    rng = np.random.default_rng(seed)
    h, w = 47, 63
    reach = (0, 12, 300)[seed % 3]    # how far corners may lie outside
    parts = []
    for _ in range(rng.integers(1, 4)):
        middle, size = rng.uniform(0, 1, 2) * [w, h], rng.uniform(0.2, 30)
        points = np.clip(middle + rng.uniform(-size, size, (rng.integers(3, 9), 2)), -reach, np.array([w, h]) + reach)
        parts.append(np.round(points, (1, 2, 7, 0)[seed % 4]).reshape(-1))    # 10.1 is the middle between two fifths
    (x1, y1, x2, y2), crop = rasterise(parts, h, w)
    assert crop.shape == (y2 - y1, x2 - x1) and 0 <= x1 <= x2 <= w and 0 <= y1 <= y2 <= h
    found = np.zeros((h, w), np.uint8)
    found[y1:y2, x1:x2] = crop
    expected = mask_api.decode(mask_api.merge(mask_api.frPyObjects([p.tolist() for p in parts], h, w)))
    assert (found == expected).all()


@pytest.mark.parametrize('polygons', [[], [[1.0, 1, 5, 5]], [[-9.0, -9, -3, -9, -3, -3]], [[90.0, 90, 99, 90, 99, 99]]])
def test_nothing_is_set_without_a_polygon_in_the_image(polygons):
    assert not rasterise(polygons, 20, 20)[1].any()


@pytest.mark.parametrize('size', [(20, 31), (33, 17), (7, 50), (40, 62), (100, 100), (1, 1), (20, 30)])
def test_bitmaps_are_stretched_as_opencv_does(size):
    rng = np.random.default_rng(0)
    dense = np.stack([np.zeros((20, 31), np.uint8), rng.integers(0, 2, (20, 31)).astype(np.uint8),
                      np.pad(rng.integers(0, 2, (6, 9)), ((3, 11), (20, 2))).astype(np.uint8)])
    masks = BitmapMasks(dense, 20, 31)
    for name, flag in (('nearest', cv2.INTER_NEAREST), ('bilinear', cv2.INTER_LINEAR)):
        expected = [cv2.resize(mask, size[::-1], interpolation=flag) for mask in dense]
        assert (masks.resize(size, name).to_ndarray() == expected).all()


def test_bitmaps_hold_what_is_in_their_windows_alone():
    dense = np.zeros((2, 1000, 1000), np.uint8)
    dense[0, 10:14, 20:25] = dense[1, 500, 500] = 1
    masks = BitmapMasks(dense, 1000, 1000).flip('diagonal').pad((1200, 1100)).crop((900, 400, 1100, 1200))
    assert [c.size for c in masks.crops] == [20, 0]
    assert masks.get_bboxes().tolist() == [[75, 586, 80, 590], [0, 0, 0, 0]]


def test_padding_with_ones_sets_what_is_outside_the_image():
    masks = BitmapMasks(np.zeros((1, 4, 5), np.uint8), 4, 5)
    assert masks.pad((6, 7), 1).areas.tolist() == [6 * 7 - 4 * 5]
    assert masks.shift(-2, 1, (4, 5), 1).to_ndarray()[0].tolist() == [[1] * 5] + [[0, 0, 0, 1, 1]] * 3


@pytest.mark.parametrize('kind', ['polygon', 'bitmap'])
def test_a_model_gets_the_same_masks(kind):
    masks = PolygonMasks([[TRIANGLE], [], [TRIANGLE, SQUARE]], 20, 24)
    masks = masks if kind == 'polygon' else masks.to_bitmap()
    out = masks.to_instance_masks()
    assert out.shape == (3, 20, 24) and (out.dense().numpy() == masks.to_ndarray()).all()
    assert len(out.bits) < 500


def test_polygon_areas_and_boxes():
    masks = PolygonMasks([[TRIANGLE], [TRIANGLE, SQUARE], []], 20, 24)
    assert masks.areas.tolist() == [40.0, 76.0, 0.0]
    assert masks.get_bboxes().tolist() == [[2, 2, 12, 10], [2, 2, 16, 16], [0, 0, 0, 0]]
    assert masks.to_ndarray().sum(axis=(1, 2)) == pytest.approx([40, 76, 0], rel=0.15)


def test_bitmap_areas_and_boxes():
    bitmap = np.zeros((2, 8, 9), np.uint8)
    bitmap[0, 2:5, 3:9] = 1
    masks = BitmapMasks(bitmap, 8, 9)
    assert masks.areas.tolist() == [18, 0] and masks.get_bboxes().tolist() == [[3, 2, 9, 5], [0, 0, 0, 0]]


@pytest.mark.parametrize('polygon, expected', [
    ([2, 2, 6, 2, 6, 6, 2, 6], 16), ([-4, -4, 4, -4, 4, 4, -4, 4], 16), ([-5, -5, 25, -5, 25, 15, -5, 15], 200),
    ([-5, -5, -1, -5, -1, -1], 0), ([18, 4, 24, 4, 24, 8, 18, 8], 8), ([10, -5, 25, 10, 10, 10], 100 - 12.5)])
def test_clipped_polygons_have_hand_worked_areas(polygon, expected):
    clipped = clip_polygon(np.array(polygon, float), 20, 10)
    x, y = clipped[0::2], clipped[1::2]
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2 if len(clipped) else 0
    assert area == pytest.approx(expected)
    assert len(clipped) == 0 or (x.min() >= 0 and x.max() <= 20 and y.min() >= 0 and y.max() <= 10)


@pytest.mark.parametrize('window', [(3, 1, 15, 13), (0, 0, 24, 20), (11, 8, 20, 20)])
def test_cropped_polygons_rasterise_to_the_cropped_bitmap(window):
    masks = PolygonMasks([[TRIANGLE], [SQUARE], [TRIANGLE, SQUARE]], 20, 24)
    a, b = masks.crop(window).to_ndarray(), masks.to_bitmap().crop(window).to_ndarray()
    assert a.shape == b.shape and (a != b).sum() <= 0.1 * max(b.sum(), 20)


@pytest.mark.parametrize('kind', ['polygon', 'bitmap'])
def test_shift_cuts_at_the_border(kind):
    masks = PolygonMasks([[SQUARE]], 20, 24)
    masks = masks if kind == 'polygon' else masks.to_bitmap()
    assert masks.shift(5, 7, (20, 24)).get_bboxes().tolist() == [[15, 17, 21, 20]]
    assert masks.shift(-12, 0, (20, 24)).get_bboxes().tolist() == [[0, 10, 4, 16]]
    assert masks.shift(30, 0, (20, 24)).areas.tolist() == [0]
    assert masks.translate((30, 30), 3, 'vertical').get_bboxes().tolist() == [[10, 13, 16, 19]]


@pytest.mark.parametrize('kind', ['polygon', 'bitmap'])
def test_picking_and_joining_keep_the_order(kind):
    masks = PolygonMasks([[TRIANGLE], [SQUARE]], 20, 24)
    masks = masks if kind == 'polygon' else masks.to_bitmap()
    picked = masks[np.array([False, True])]
    assert len(picked) == 1 and picked.get_bboxes().tolist() == [[10, 10, 16, 16]]
    joined = type(masks).cat([picked, masks[[0]], masks[:0]])
    assert joined.get_bboxes().tolist() == masks[[1, 0]].get_bboxes().tolist()
    assert (joined.height, joined.width) == (20, 24)


@pytest.mark.parametrize('kind', ['polygon', 'bitmap'])
def test_flips_are_their_own_inverse(kind):
    masks = PolygonMasks([[TRIANGLE], [SQUARE]], 20, 24)
    masks = masks if kind == 'polygon' else masks.to_bitmap()
    for direction in ('horizontal', 'vertical', 'diagonal'):
        flipped = masks.flip(direction)
        assert (flipped.flip(direction).to_ndarray() == masks.to_ndarray()).all()
        assert (flipped.to_ndarray() != masks.to_ndarray()).any()

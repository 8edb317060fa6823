import cv2
import numpy as np
import pytest

from omnidet.data.transforms import build_transform
from omnidet.data.transforms.loading import read_image
from omnidet.errors import ConfigError, DatasetError, ImageError


@pytest.fixture
def smooth():
    y, x = np.mgrid[0:90, 0:120]
    return np.stack([x * 2, y * 2, x + y], axis=2).astype(np.uint8)


def save(path, image):
    cv2.imwrite(str(path), image)
    return path


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_a_whole_image_is_read_as_bgr(tmp_path, smooth, suffix):
    image = read_image(save(tmp_path / f'a{suffix}', smooth))
    assert image.shape == (90, 120, 3) and np.abs(image.astype(int) - smooth).mean() < 3


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
@pytest.mark.parametrize('share', [0.3, 0.7, 0.95])
def test_a_truncated_image_is_an_error_that_names_it(tmp_path, smooth, suffix, share):
    path = save(tmp_path / f'a{suffix}', smooth)
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * share)])
    with pytest.raises(ImageError, match=f'a{suffix}'):
        read_image(path)


def test_a_truncated_jpeg_with_a_whole_thumbnail_is_found_out(tmp_path, smooth):
    data = save(tmp_path / 'a.jpg', smooth).read_bytes()
    thumbnail = b'\xff\xd8 tiny \xff\xd9'
    app = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    whole = data[:2] + app + data[2:]
    (tmp_path / 'a.jpg').write_bytes(whole)
    assert read_image(tmp_path / 'a.jpg').shape == (90, 120, 3)
    (tmp_path / 'a.jpg').write_bytes(whole[:-len(data) // 3])
    with pytest.raises(ImageError, match='cut off'):
        read_image(tmp_path / 'a.jpg')


def test_bytes_after_the_end_of_a_jpeg_do_no_harm(tmp_path, smooth):
    path = save(tmp_path / 'a.jpg', smooth)
    path.write_bytes(path.read_bytes() + b'trailing bytes of a camera')
    assert read_image(path).shape == (90, 120, 3)


@pytest.mark.parametrize('content, message', [(None, 'No such file'), (b'', 'empty'), (b'not an image', 'decoded')])
def test_missing_empty_and_undecodable_files_are_errors(tmp_path, content, message):
    path = tmp_path / 'a.jpg'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as e:
        build_transform(dict(type='LoadImageFromFile'))(dict(img_path=str(path)))
    assert str(path) in str(e.value)
    assert build_transform(dict(type='LoadImageFromFile', ignore_empty=True))(dict(img_path=str(path))) is None


def test_colour_types_and_float(tmp_path, smooth):
    path = str(save(tmp_path / 'a.png', smooth))
    gray = build_transform(dict(type='LoadImageFromFile', color_type='grayscale'))(dict(img_path=path))
    assert gray['img'].shape == (90, 120)
    out = build_transform(dict(type='LoadImageFromFile', to_float32=True))(dict(img_path=path))
    assert out['img'].dtype == np.float32 and out['img_shape'] == out['ori_shape'] == (90, 120)
    pillow = build_transform(dict(type='LoadImageFromFile', imdecode_backend='pillow'))(dict(img_path=path))
    assert (pillow['img'] == smooth).all()


def test_the_cameras_rotation_is_applied(tmp_path, smooth):
    from PIL import Image
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth[..., ::-1]).save(tmp_path / 'a.jpg', exif=exif)
    for backend in ('cv2', 'pillow'):
        assert read_image(tmp_path / 'a.jpg', backend=backend).shape == (120, 90, 3)
    assert read_image(tmp_path / 'a.jpg', 'color_ignore_orientation').shape == (90, 120, 3)


@pytest.mark.parametrize('cfg', [dict(backend_args=dict(backend='petrel')), dict(color_type='colour'),
                                 dict(imdecode_backend='turbojpeg')])
def test_unknown_storage_and_decoders_are_refused(cfg):
    with pytest.raises(ConfigError, match='LoadImageFromFile'):
        build_transform(dict(type='LoadImageFromFile', **cfg))


SQUARE = [[2, 2, 8, 2, 8, 8, 2, 8]]


def test_annotations_become_arrays():
    results = dict(img_shape=(10, 12), instances=[
        dict(bbox=[2, 2, 8, 8], bbox_label=3, ignore_flag=0, mask=SQUARE),
        dict(bbox=[0, 0, 4, 4], bbox_label=1, ignore_flag=1, mask=dict(size=[10, 12], counts=[0, 4, 116]))])
    out = build_transform(dict(type='LoadAnnotations', with_mask=True))(results)
    assert out['gt_bboxes'].dtype == np.float32 and out['gt_bboxes'].tolist() == [[2, 2, 8, 8], [0, 0, 4, 4]]
    assert out['gt_bboxes_labels'].tolist() == [3, 1] and out['gt_ignore_flags'].tolist() == [False, True]
    assert out['gt_masks'].to_ndarray().sum(axis=(1, 2)).tolist() == [36, 4]


def test_an_instance_without_a_mask_is_ignored():
    results = dict(img_shape=(10, 12), instances=[dict(bbox=[2, 2, 8, 8], bbox_label=3, mask=None)])
    for poly2mask in (True, False):
        out = build_transform(dict(type='LoadAnnotations', with_mask=True, poly2mask=poly2mask))(dict(results))
        assert out['gt_ignore_flags'].tolist() == [True] and out['gt_masks'].areas.tolist() == [0]


def test_a_damaged_mask_is_an_error_that_names_the_image():
    mask = dict(size=[10, 12], counts=[5, 5])
    results = dict(img_path='x.jpg', img_shape=(10, 12), instances=[dict(bbox=[0, 0, 4, 4], bbox_label=1, mask=mask)])
    with pytest.raises(DatasetError, match=r'x\.jpg.*add up'):
        build_transform(dict(type='LoadAnnotations', with_mask=True))(results)


def test_an_image_without_instances_has_empty_arrays():
    out = build_transform(dict(type='LoadAnnotations', with_mask=True))(dict(img_shape=(10, 12), instances=[]))
    assert out['gt_bboxes'].shape == (0, 4) and out['gt_masks'].to_ndarray().shape == (0, 10, 12)


def test_a_semantic_map_is_read_and_its_zero_reduced(tmp_path):
    cv2.imwrite(str(tmp_path / 's.png'), np.array([[0, 1, 255], [2, 3, 4]], np.uint8))
    results = dict(seg_map_path=str(tmp_path / 's.png'), instances=[])
    load = dict(type='LoadAnnotations', with_bbox=False, with_label=False, with_seg=True)
    assert build_transform(load)(dict(results))['gt_seg_map'].tolist() == [[0, 1, 255], [2, 3, 4]]
    reduced = build_transform(dict(load, reduce_zero_label=True))(dict(results))
    assert reduced['gt_seg_map'].tolist() == [[255, 0, 255], [1, 2, 3]]


def test_filter_drops_small_boxes_and_the_image_when_none_is_left():
    results = dict(gt_bboxes=np.array([[0, 0, 3, 9], [0, 0, 9, 9]], np.float32), gt_bboxes_labels=np.array([1, 2]),
                   gt_ignore_flags=np.zeros(2, bool))
    out = build_transform(dict(type='FilterAnnotations', min_gt_bbox_wh=(4, 4)))(dict(results))
    assert out['gt_bboxes_labels'].tolist() == [2]
    assert build_transform(dict(type='FilterAnnotations', min_gt_bbox_wh=(10, 4)))(dict(results)) is None
    kept = build_transform(dict(type='FilterAnnotations', min_gt_bbox_wh=(10, 4), keep_empty=False))(dict(results))
    assert len(kept['gt_bboxes']) == 2

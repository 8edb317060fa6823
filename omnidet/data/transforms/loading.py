"""From files to arrays: images, and the annotations that a dataset hands over."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from omnidet.data.masks import BitmapMasks, PolygonMasks
from omnidet.data.transforms.base import BaseTransform, Results, keep_instances
from omnidet.errors import ConfigError, DatasetError, ImageError
from omnidet.registry import TRANSFORMS

CV2_FLAGS = {
    'color': cv2.IMREAD_COLOR,
    'grayscale': cv2.IMREAD_GRAYSCALE,
    'unchanged': cv2.IMREAD_UNCHANGED,
    'color_ignore_orientation': cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_COLOR,
    'grayscale_ignore_orientation': cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_GRAYSCALE,
}


def read_image(path: str | Path, color_type: str = 'color', backend: str = 'cv2') -> np.ndarray:
    """An image file as an array.

    Args:
        path: the file.
        color_type: 'color' (BGR), 'grayscale', 'unchanged', or one of the first two with `_ignore_orientation`.
        backend: 'cv2' or 'pillow'.

    Returns:
        (h, w, 3) uint8 in BGR, or (h, w) for 'grayscale'.

    Raises:
        ImageError: the file is missing, empty, cut off, or no image.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as e:
        raise ImageError(f'{path}: {e.strerror or e}') from e
    if not data:
        raise ImageError(f'{path}: the file is empty')
    if _looks_cut_off(data) and not _decodes_whole(data):
        raise ImageError(f'{path}: the image is cut off; its file ends before its pixels do')
    image = _decode_pillow(data, color_type) if backend == 'pillow' else _decode_cv2(data, color_type)
    if image is None:
        raise ImageError(f'{path}: this is no image that can be decoded')
    return image


def _decode_cv2(data: bytes, color_type: str) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), CV2_FLAGS[color_type])
    except cv2.error:
        return None


def _decode_pillow(data: bytes, color_type: str) -> np.ndarray | None:
    from PIL import Image, ImageOps
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        if not color_type.endswith('ignore_orientation') and color_type != 'unchanged':
            image = ImageOps.exif_transpose(image)
        if color_type.startswith('grayscale'):
            return np.array(image.convert('L'))
        if color_type == 'unchanged':
            array = np.array(image)
            return array[..., [2, 1, 0, 3][:array.shape[2]]] if array.ndim == 3 else array
        return np.ascontiguousarray(np.array(image.convert('RGB'))[..., ::-1])
    except (OSError, ValueError, SyntaxError):
        return None


def _looks_cut_off(data: bytes) -> bool:
    """True where a jpeg or png lacks its end marker: OpenCV decodes such a file, and paints the rest grey."""
    if data[:2] == b'\xff\xd8':
        return data.rfind(b'\xff\xd9', _jpeg_scan(data)) < 0
    return data[:4] == b'\x89PNG' and b'IEND' not in data[-64:]


def _jpeg_scan(data: bytes) -> int:
    """Where the compressed pixels of a jpeg begin; before them may lie a thumbnail with an end marker of its own."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        at += 2 + int.from_bytes(data[at + 2:at + 4], 'big') if data[at + 1] != 0xFF else 1
    return at


def _decodes_whole(data: bytes) -> bool:
    """Whether Pillow, which is strict, finds all pixels: some cameras leave the end marker out."""
    from PIL import Image
    try:
        Image.open(io.BytesIO(data)).load()
    except (OSError, ValueError, SyntaxError):
        return False
    return True


def check_backend_args(backend_args: Mapping[str, Any] | None, where: str) -> None:
    """Refuse storage other than the local disk.

    Raises:
        ConfigError: `backend_args` names another backend.
    """
    backend = (backend_args or {}).get('backend', 'local')
    if backend not in ('local', 'disk'):
        raise ConfigError(f'{where}.backend_args: only files on the local disk are read; found backend {backend!r}')


@TRANSFORMS.register
class LoadImageFromFile(BaseTransform):
    """Read `img_path` into `img`, and set `img_shape` and `ori_shape`.

    Args:
        to_float32: give float32 in place of uint8.
        color_type: 'color' (BGR), 'grayscale', 'unchanged', or one of the first two with `_ignore_orientation`.
        imdecode_backend: 'cv2' or 'pillow'.
        file_client_args: as `backend_args`; its name of old.
        ignore_empty: drop an image that cannot be read in place of raising an error.
        backend_args: None or dict(backend='local').
    """

    def __init__(self, to_float32: bool = False, color_type: str = 'color', imdecode_backend: str = 'cv2',
                 file_client_args: Mapping[str, Any] | None = None, ignore_empty: bool = False,
                 backend_args: Mapping[str, Any] | None = None) -> None:
        check_backend_args(backend_args or file_client_args, 'LoadImageFromFile')
        if color_type not in CV2_FLAGS:
            raise ConfigError(f'LoadImageFromFile.color_type: {color_type!r} is none of {", ".join(CV2_FLAGS)}')
        _check_decoder(imdecode_backend, 'LoadImageFromFile')
        self.to_float32 = to_float32
        self.color_type = color_type
        self.imdecode_backend = imdecode_backend
        self.ignore_empty = ignore_empty

    def transform(self, results: Results) -> Results | None:
        try:
            image = read_image(results['img_path'], self.color_type, self.imdecode_backend)
        except ImageError:
            if self.ignore_empty:
                return None
            raise
        return _set_image(results, image, self.to_float32)


@TRANSFORMS.register
class LoadImageFromNDArray(BaseTransform):
    """Take the image that is in `img` already, and set `img_shape` and `ori_shape`. Arguments as LoadImageFromFile."""

    def __init__(self, to_float32: bool = False, color_type: str = 'color', imdecode_backend: str = 'cv2',
                 file_client_args: Mapping[str, Any] | None = None, ignore_empty: bool = False,
                 backend_args: Mapping[str, Any] | None = None) -> None:
        self.to_float32 = to_float32

    def transform(self, results: Results) -> Results:
        return _set_image(results, results['img'], self.to_float32)


def _set_image(results: Results, image: np.ndarray, to_float32: bool) -> Results:
    results['img'] = image.astype(np.float32) if to_float32 else image
    results['img_shape'] = results['ori_shape'] = image.shape[:2]
    return results


@TRANSFORMS.register
class LoadAnnotations(BaseTransform):
    """Turn `instances`, as a dataset hands them over, into arrays.

    Reads `instances` (a list of dicts of bbox, bbox_label, ignore_flag and mask) and `seg_map_path`; sets `gt_bboxes`,
    `gt_bboxes_labels`, `gt_ignore_flags`, `gt_masks` and `gt_seg_map`.

    Args:
        with_mask: load instance masks. An instance without a usable mask is ignored in training.
        poly2mask: turn polygons into bitmaps at once; False keeps them, which is cheaper to transform.
        box_type: 'hbox', xyxy boxes; nothing else is known.
        reduce_zero_label: in the semantic map, make 0 the ignored value and count classes from 1 down to 0.
        ignore_index: the ignored value of the semantic map.
        with_bbox, with_label: load boxes, and their labels.
        with_seg: load the semantic map.
        with_keypoints: not supported.
        imdecode_backend: what decodes the semantic map, 'cv2' or 'pillow'.
        file_client_args: as `backend_args`; its name of old.
        backend_args: None or dict(backend='local').
    """

    def __init__(self, with_mask: bool = False, poly2mask: bool = True, box_type: str | None = 'hbox',
                 reduce_zero_label: bool = False, ignore_index: int = 255, with_bbox: bool = True,
                 with_label: bool = True, with_seg: bool = False, with_keypoints: bool = False,
                 imdecode_backend: str = 'cv2', file_client_args: Mapping[str, Any] | None = None,
                 backend_args: Mapping[str, Any] | None = None) -> None:
        check_backend_args(backend_args or file_client_args, 'LoadAnnotations')
        _check_decoder(imdecode_backend, 'LoadAnnotations')
        if box_type not in ('hbox', None):
            raise ConfigError(f"LoadAnnotations.box_type: only 'hbox' is known; found {box_type!r}")
        if with_keypoints:
            raise ConfigError('LoadAnnotations.with_keypoints: keypoints are not supported')
        self.with_mask = with_mask
        self.poly2mask = poly2mask
        self.reduce_zero_label = reduce_zero_label
        self.ignore_index = ignore_index
        self.with_bbox = with_bbox
        self.with_label = with_label
        self.with_seg = with_seg
        self.imdecode_backend = imdecode_backend

    def transform(self, results: Results) -> Results:
        instances = results.get('instances', [])
        if self.with_bbox:
            results['gt_bboxes'] = np.array([i['bbox'] for i in instances], np.float32).reshape(-1, 4)
            results['gt_ignore_flags'] = np.array([i.get('ignore_flag', 0) for i in instances], bool)
        if self.with_label:
            results['gt_bboxes_labels'] = np.array([i['bbox_label'] for i in instances], np.int64)
        if self.with_mask:
            self._load_masks(results, instances)
        if self.with_seg:
            self._load_seg_map(results)
        return results

    def _load_masks(self, results: Results, instances: list[dict[str, Any]]) -> None:
        h, w = results['img_shape'] if 'img_shape' in results else (results['height'], results['width'])
        masks = [i.get('mask') for i in instances]
        if 'gt_ignore_flags' in results:
            results['gt_ignore_flags'] |= np.array([m is None for m in masks], bool)
        if self.poly2mask or any(isinstance(m, Mapping) for m in masks):
            try:
                results['gt_masks'] = BitmapMasks.from_annotations(masks, h, w)
            except ValueError as e:
                raise DatasetError(f'{results.get("img_path")}: a mask cannot be read: {e}') from e
        else:
            results['gt_masks'] = PolygonMasks([m or [] for m in masks], h, w)

    def _load_seg_map(self, results: Results) -> None:
        if results.get('seg_map_path') is None:
            return
        seg_map = read_image(results['seg_map_path'], 'unchanged', self.imdecode_backend).squeeze()
        if seg_map.ndim != 2:
            raise ImageError(f'{results["seg_map_path"]}: a semantic map has one channel; found {seg_map.shape}')
        if self.reduce_zero_label:
            ignored = (seg_map == 0) | (seg_map == self.ignore_index)
            seg_map = np.where(ignored, self.ignore_index, seg_map.astype(np.int32) - 1).astype(np.uint8)
        results['gt_seg_map'] = seg_map
        results['ignore_index'] = self.ignore_index


def _check_decoder(backend: str, where: str) -> None:
    if backend not in ('cv2', 'pillow'):
        raise ConfigError(f"{where}.imdecode_backend: {backend!r} is none of 'cv2', 'pillow'")


@TRANSFORMS.register
class FilterAnnotations(BaseTransform):
    """Drop boxes that are too small; drop the image where none is left.

    Args:
        min_gt_bbox_wh: the least width and height of a box in pixels; both must be exceeded.
        min_gt_mask_area: the least area of a mask in pixels.
        by_box, by_mask: judge boxes, and masks.
        keep_empty: drop the image (True) where no box is left, or give it back unfiltered (False). An image that had
            none stays.
    """

    def __init__(self, min_gt_bbox_wh: tuple[float, float] = (1, 1), min_gt_mask_area: int = 1, by_box: bool = True,
                 by_mask: bool = False, keep_empty: bool = True) -> None:
        if not (by_box or by_mask):
            raise ConfigError('FilterAnnotations: by_box or by_mask must be True')
        self.min_gt_bbox_wh = min_gt_bbox_wh
        self.min_gt_mask_area = min_gt_mask_area
        self.by_box = by_box
        self.by_mask = by_mask
        self.keep_empty = keep_empty

    def transform(self, results: Results) -> Results | None:
        boxes = results['gt_bboxes']
        if not len(boxes):
            return results
        keep = np.ones(len(boxes), bool)
        if self.by_box:
            sides = boxes[:, 2:] - boxes[:, :2]
            keep &= (sides > np.asarray(self.min_gt_bbox_wh)).all(axis=1)
        if self.by_mask:
            keep &= results['gt_masks'].areas >= self.min_gt_mask_area
        if not keep.any():
            return None if self.keep_empty else results
        return keep_instances(results, keep)

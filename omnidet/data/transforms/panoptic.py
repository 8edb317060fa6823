"""Panoptic maps as instance masks and a semantic map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from omnidet.data.masks import BitmapMasks
from omnidet.data.outlines import window_of
from omnidet.data.transforms.base import BaseTransform, Results
from omnidet.data.transforms.loading import LoadAnnotations, read_image
from omnidet.errors import DatasetError, ImageError
from omnidet.panoptic import colors_to_ids
from omnidet.registry import TRANSFORMS
from omnidet.structures import IGNORE_LABEL


@TRANSFORMS.register
class LoadPanopticAnnotations(BaseTransform):
    """Turn what `CocoPanopticDataset` hands over into arrays: boxes and masks of things, a semantic map of all.

    Reads `instances`, `segments_info` and the png at `seg_map_path`; sets `gt_bboxes`, `gt_bboxes_labels`,
    `gt_ignore_flags`, `gt_masks` and `gt_seg_map`, which is 255 where no segment is. The maps come in the size that
    the image has by now.

    Args:
        with_bbox, with_label: load the boxes of things, and their labels.
        with_mask: load the masks of things.
        with_seg: load the semantic map.
        box_type: 'hbox', xyxy boxes; nothing else is known.
        imdecode_backend: what decodes the png, 'cv2' or 'pillow'.
        file_client_args: as `backend_args`; its name of old.
        backend_args: None or dict(backend='local').
    """

    def __init__(self, with_bbox: bool = True, with_label: bool = True, with_mask: bool = True, with_seg: bool = True,
                 box_type: str | None = 'hbox', imdecode_backend: str = 'cv2',
                 file_client_args: Mapping[str, Any] | None = None,
                 backend_args: Mapping[str, Any] | None = None) -> None:
        self.boxes = LoadAnnotations(False, True, box_type, with_bbox=with_bbox, with_label=with_label,
                                     imdecode_backend=imdecode_backend, file_client_args=file_client_args,
                                     backend_args=backend_args)
        self.with_mask = with_mask
        self.with_seg = with_seg
        self.imdecode_backend = imdecode_backend

    def transform(self, results: Results) -> Results:
        results = self.boxes(results)
        if self.with_mask or self.with_seg:
            path = results.get('seg_map_path')
            if path is None or 'segments_info' not in results:
                raise DatasetError(f'{results.get("img_path")}: there is no panoptic map; LoadPanopticAnnotations '
                                   'needs a CocoPanopticDataset with data_prefix=dict(img=..., seg=...)')
            ids = read_panoptic(path, self.imdecode_backend)
            h, w = results.get('img_shape', ids.shape)
            if ids.shape != (h, w):
                ids = cv2.resize(ids, (w, h), interpolation=cv2.INTER_NEAREST)
            self._split(results, ids)
        return results

    def _split(self, results: Results, ids: np.ndarray) -> None:
        """Set the masks and the semantic map of a panoptic map (h, w)."""
        seg_map = np.full(ids.shape, IGNORE_LABEL, np.uint8)
        masks = []
        for segment in results['segments_info']:
            window, crop = window_of((ids == segment['id']).view(np.uint8))
            x1, y1, x2, y2 = window
            seg_map[y1:y2, x1:x2][crop.astype(bool)] = segment['category']
            if segment['is_thing']:
                masks.append((window, crop))
        if self.with_mask:
            results['gt_masks'] = BitmapMasks.from_windows(masks, *ids.shape)
        if self.with_seg:
            results['gt_seg_map'], results['ignore_index'] = seg_map, IGNORE_LABEL


def read_panoptic(path: Any, backend: str = 'cv2') -> np.ndarray:
    """A panoptic png as (h, w) int32 ids: R + 256 G + 65536 B of each pixel.

    Raises:
        ImageError: the file cannot be read, or has no three colours.
    """
    bgr = read_image(path, 'unchanged', backend)
    if bgr.ndim != 3 or bgr.shape[2] < 3 or bgr.dtype != np.uint8:
        raise ImageError(f'{path}: a panoptic map holds its ids as three colours of 8 bits; found {bgr.dtype} '
                         f'{bgr.shape}')
    return colors_to_ids(bgr)

"""The end of every pipeline: from the dict of arrays to a `Sample` of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from omnidet.data.transforms.base import BaseTransform, Results
from omnidet.registry import TRANSFORMS
from omnidet.structures import IGNORE_LABEL, ImageMeta, Sample


@TRANSFORMS.register
class PackDetInputs(BaseTransform):
    """Pack image, annotations and meta data into a `Sample`.

    Args:
        meta_keys: which of MMDetection's meta data to keep; accepted as it stands in configs. A `Sample` always has
            the fields of `ImageMeta`.
    """

    def __init__(self, meta_keys: Sequence[str] = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor',
                                                   'flip', 'flip_direction')) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: Results) -> Sample:
        image = results['img']
        image = image[..., None] if image.ndim == 2 else image
        h, w = image.shape[:2]
        scale_factor = results.get('scale_factor', (1.0, 1.0))
        meta = ImageMeta(
            img_shape=(int(h), int(w)),
            ori_shape=_pair(results.get('ori_shape', (h, w)), int),
            scale_factor=_pair(scale_factor, float),
            img_id=results.get('img_id'),
            img_path=None if results.get('img_path') is None else str(results['img_path']),
            flip_direction=results.get('flip_direction'),
            proposals=None if results.get('proposals') is None else _boxes(results['proposals']),
            offset=_pair(results.get('offset', (0, 0)), int))
        image = np.ascontiguousarray(image.transpose(2, 0, 1))    # (C, h, w)
        return Sample(torch.from_numpy(image), pack_target(results), meta)


def pack_target(results: Results) -> dict[str, Any] | None:
    """The annotations of `results` as an item of `Targets.collate`, or None where there are none.

    Returns:
        boxes (G, 4) float32, labels (G,) int64, ignore (G,) bool, and where loaded masks (G,)
        `InstanceMasks`, sem_seg (h, w) int64 with 255 ignored, and proposals (P, 4) float32.
    """
    boxes, seg_map = results.get('gt_bboxes'), results.get('gt_seg_map')
    if boxes is None and seg_map is None:
        return None
    boxes = np.zeros((0, 4), np.float32) if boxes is None else np.asarray(boxes, np.float32)
    ignore = results.get('gt_ignore_flags')
    target: dict[str, Any] = dict(
        boxes=torch.from_numpy(boxes),
        labels=torch.as_tensor(np.asarray(results.get('gt_bboxes_labels', np.zeros(len(boxes))), np.int64)),
        ignore=torch.as_tensor(np.zeros(len(boxes), bool) if ignore is None else np.asarray(ignore, bool)))
    if results.get('gt_masks') is not None:
        target['masks'] = results['gt_masks'].to_instance_masks()
    if seg_map is not None:
        sem_seg = torch.from_numpy(np.ascontiguousarray(seg_map)).long()
        target['sem_seg'] = sem_seg.masked_fill(sem_seg == results.get('ignore_index', IGNORE_LABEL), IGNORE_LABEL)
    if results.get('proposals') is not None:
        target['proposals'] = _boxes(results['proposals'])
    return target


def _boxes(boxes: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4))


def _pair(values: Sequence[Any], kind: Any) -> tuple[Any, Any]:
    return kind(values[0]), kind(values[1])

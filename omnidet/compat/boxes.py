"""`mmdet.structures.bbox` and the helpers of boxes in `mmdet.core`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omnidet.ops.boxes import aligned_giou, aligned_iou, pairwise_iof, pairwise_iou
from omnidet.ops.relative_boxes import cxcywh_to_xyxy, xyxy_to_cxcywh

bbox_xyxy_to_cxcywh = xyxy_to_cxcywh
bbox_cxcywh_to_xyxy = cxcywh_to_xyxy


def bbox_overlaps(bboxes1: Any, bboxes2: Any, mode: str = 'iou', is_aligned: bool = False, eps: float = 1e-6) -> Any:
    """Overlaps of boxes xyxy: (M, N), or (M,) of pairs where `is_aligned`; arrays give arrays.

    Args:
        bboxes1, bboxes2: (M, 4) and (N, 4) tensors or arrays.
        mode: 'iou', 'iof' (over the first box's area), or 'giou' of pairs.
        is_aligned: the boxes are pairs.
        eps: the least union.
    """
    arrays = isinstance(bboxes1, np.ndarray)
    a, b = torch.as_tensor(bboxes1), torch.as_tensor(bboxes2)
    if is_aligned:
        function = {'iou': aligned_iou, 'giou': aligned_giou, 'iof': lambda x, y, e: pairwise_iof(
            x[:, None], y[:, None], e)[:, 0, 0]}[mode]
    else:
        function = {'iou': pairwise_iou, 'iof': pairwise_iof, 'giou': lambda x, y, e: aligned_giou(
            x[:, None].expand(-1, len(y), -1), y[None].expand(len(x), -1, -1), e)}[mode]
    out = function(a, b, eps)
    return out.numpy() if arrays else out


def bbox2roi(bbox_list: Sequence[Tensor]) -> Tensor:
    """Boxes of each image as (M, 5), with the image's number in front."""
    return torch.cat([torch.cat([b.new_full((len(b), 1), i), b[:, :4]], 1) for i, b in enumerate(bbox_list)])


def bbox2result(bboxes: Any, labels: Any, num_classes: int) -> list[np.ndarray]:
    """Boxes with scores (K, 5) as an array for each class."""
    boxes, names = (x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x) for x in (bboxes, labels))
    return [boxes[names == i].reshape(-1, 5) for i in range(num_classes)]


def distance2bbox(points: Tensor, distance: Tensor, max_shape: Any = None) -> Tensor:
    """Boxes around points (..., 2) from their distances (..., 4) to the left, top, right and bottom sides."""
    out = torch.cat([points - distance[..., :2], points + distance[..., 2:]], -1)
    if max_shape is None:
        return out
    h, w = (float(v) for v in list(max_shape)[:2])
    return torch.minimum(out.clamp(min=0), out.new_tensor([w, h, w, h]))


def bbox2distance(points: Tensor, bbox: Tensor, max_dis: float | None = None, eps: float = 0.1) -> Tensor:
    """The distances (..., 4) from points (..., 2) to the sides of boxes, held in 0 to `max_dis - eps` where given."""
    out = torch.cat([points - bbox[..., :2], bbox[..., 2:] - points], -1)
    return out if max_dis is None else out.clamp(min=0, max=max_dis - eps)


class HorizontalBoxes(np.ndarray):
    """Boxes (G, 4) xyxy as an array that also has the methods which transforms of MMDetection 3.x call.

    Args:
        data: (G, 4), an array, tensor or list.
        dtype, device, clone, in_mode: accepted; 'cxcywh' as `in_mode` is brought to xyxy.
    """

    def __new__(cls, data: Any, dtype: Any = None, device: Any = None, clone: bool = True,
                in_mode: str | None = None) -> HorizontalBoxes:
        array = data.detach().cpu().numpy() if isinstance(data, Tensor) else data
        boxes = np.array(array, np.float32).reshape(-1, 4)
        if in_mode == 'cxcywh':
            boxes = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
        return boxes.view(cls)

    @property
    def tensor(self) -> Tensor:
        """The boxes as a tensor that shares their memory."""
        return torch.from_numpy(self.view(np.ndarray))

    @property
    def widths(self) -> Tensor:
        return self.tensor[:, 2] - self.tensor[:, 0]

    @property
    def heights(self) -> Tensor:
        return self.tensor[:, 3] - self.tensor[:, 1]

    @property
    def areas(self) -> Tensor:
        return self.widths * self.heights

    @property
    def centers(self) -> Tensor:
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

    def numpy(self) -> np.ndarray:
        return self.view(np.ndarray)

    def clone(self) -> HorizontalBoxes:
        return self.copy()

    def flip_(self, img_shape: tuple[int, int], direction: str = 'horizontal') -> None:
        """Mirror the boxes in an image of `img_shape` (h, w)."""
        h, w = img_shape[:2]
        if direction in ('horizontal', 'diagonal'):
            self[:, [0, 2]] = w - self[:, [2, 0]]
        if direction in ('vertical', 'diagonal'):
            self[:, [1, 3]] = h - self[:, [3, 1]]

    def translate_(self, distances: tuple[float, float]) -> None:
        self += np.array([*distances, *distances], np.float32)

    def rescale_(self, scale_factor: tuple[float, float]) -> None:
        self *= np.array([*scale_factor, *scale_factor], np.float32)

    def clip_(self, img_shape: tuple[int, int]) -> None:
        h, w = img_shape[:2]
        np.clip(self[:, 0::2], 0, w, out=self[:, 0::2])
        np.clip(self[:, 1::2], 0, h, out=self[:, 1::2])

    def is_inside(self, img_shape: tuple[int, int], all_inside: bool = False, allowed_border: int = 0) -> Tensor:
        """(G,) bool, True for a box that is partly, or wholly, in an image of `img_shape` (h, w)."""
        h, w = img_shape[:2]
        x1, y1, x2, y2 = self.tensor.T
        b = allowed_border
        if all_inside:
            return (x1 >= -b) & (y1 >= -b) & (x2 < w + b) & (y2 < h + b)
        return (x1 < w + b) & (y1 < h + b) & (x2 > -b) & (y2 > -b)

    @classmethod
    def cat(cls, boxes: Sequence[Any], dim: int = 0) -> HorizontalBoxes:
        return cls(np.concatenate([np.asarray(b) for b in boxes], dim))


def get_box_tensor(boxes: Any) -> Tensor:
    """Boxes of any kind as a tensor."""
    return boxes.tensor if isinstance(boxes, HorizontalBoxes) else torch.as_tensor(boxes)


def get_box_wh(boxes: Any) -> tuple[Tensor, Tensor]:
    tensor = get_box_tensor(boxes)
    return tensor[..., 2] - tensor[..., 0], tensor[..., 3] - tensor[..., 1]


def autocast_box_type(dst_box_type: str = 'hbox') -> Any:
    """A decorator that changes nothing: transforms of the user's get `HorizontalBoxes`."""
    return lambda function: function


def get_box_type(box_type: Any) -> tuple[str, type]:
    return 'hbox', HorizontalBoxes

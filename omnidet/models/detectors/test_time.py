"""Test-time augmentation: one detector looks at several versions of an image, and what it finds is merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.masks import InstanceMasks
from omnidet.ops.nms import suppress
from omnidet.registry import DETECTORS
from omnidet.structures import ImageMeta, Result


@DETECTORS.register
class DetTTAModel(nn.Module):
    """Merge what a detector finds in resized and mirrored versions of an image.

    All detections are brought back to the image's file, put together, and thinned out by suppression within classes.
    Masks stay with their boxes.

    Args:
        module: the detector, or its config.
        tta_cfg: dict(nms=dict(type='nms', iou_threshold=...), max_per_img=...).
        data_preprocessor: accepted; the versions come preprocessed.
    """

    def __init__(self, module: nn.Module | Mapping[str, Any], tta_cfg: Mapping[str, Any] | None = None,
                 data_preprocessor: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        unknown = set(tta_cfg or {}) - {'nms', 'max_per_img'}
        if unknown:
            raise ConfigError(f'DetTTAModel.tta_cfg: {", ".join(sorted(unknown))} is unknown; nms and max_per_img are '
                              'known')
        self.module = module if isinstance(module, nn.Module) else DETECTORS.build(module)
        self.nms = (tta_cfg or {}).get('nms', {'type': 'nms', 'iou_threshold': 0.5})
        self.max_per_img = (tta_cfg or {}).get('max_per_img', 100)

    def predict(self, images: Sequence[Tensor], metas: Sequence[Sequence[ImageMeta]], rescale: bool = True
                ) -> list[Result]:
        """The merged detections of each image, in pixels of its file.

        Args:
            images: for each version the batch (B, 3, H, W); sizes may differ.
            metas: for each version what was done to the B images.
            rescale: accepted; versions of different sizes meet in the pixels of the file alone.
        """
        found = [self.module.predict(x, m, rescale=True) for x, m in zip(images, metas, strict=True)]    # type: ignore[operator]
        back = [[unflip(r, m) for r, m in zip(*pair, strict=True)] for pair in zip(found, metas, strict=True)]
        return [self.merge(versions) for versions in zip(*back, strict=True)]

    def merge(self, versions: Sequence[Result]) -> Result:
        """The detections of all versions of an image, in the same pixels, as one result."""
        boxes, scores, labels = (torch.cat([getattr(r, k) for r in versions]) for k in ('boxes', 'scores', 'labels'))
        index, scores = suppress(boxes, scores, labels, self.nms, self.max_per_img)
        masks = [r.instance_masks for r in versions]
        return Result(boxes[index], scores, labels[index], _pick(masks, index.tolist()))


def unflip(result: Result, meta: ImageMeta) -> Result:
    """Mirror detections back to where they are in the image's file.

    Args:
        result: in pixels of the file, mirrored as `meta.flip_direction` says.
        meta: also has the file's size.
    """
    if meta.flip_direction is None:
        return result
    h, w = meta.ori_shape
    x1, y1, x2, y2 = result.boxes.unbind(-1)
    if meta.flip_direction in ('horizontal', 'diagonal'):
        x1, x2 = w - x2, w - x1
    if meta.flip_direction in ('vertical', 'diagonal'):
        y1, y2 = h - y2, h - y1
    masks = result.instance_masks
    return result.replace(boxes=torch.stack([x1, y1, x2, y2], dim=-1),
                          masks=None if masks is None else _flip_masks(masks, meta.flip_direction))


def _flip_masks(masks: InstanceMasks, direction: str) -> InstanceMasks:
    masks = masks.cpu()
    H, W = masks.size
    horizontal, vertical = direction in ('horizontal', 'diagonal'), direction in ('vertical', 'diagonal')
    dims = [d for d, flipped in ((0, vertical), (1, horizontal)) if flipped]
    x1, y1, x2, y2 = masks.windows.unbind(-1)
    if horizontal:
        x1, x2 = W - x2, W - x1
    if vertical:
        y1, y2 = H - y2, H - y1
    return InstanceMasks.from_windows(torch.stack([x1, y1, x2, y2], dim=-1), [c.flip(dims) for c in masks.crops()],
                                      masks.size)


def _pick(masks: Sequence[InstanceMasks | None], index: Sequence[int]) -> InstanceMasks | None:
    """The masks at `index` of all put together; None where one of the versions has none."""
    known = [m.cpu() for m in masks if m is not None]
    if len(known) < len(masks):
        return None
    windows = torch.cat([m.windows for m in known])
    crops = [c for m in known for c in m.crops()]
    return InstanceMasks.from_windows(windows[list(index)], [crops[i] for i in index], known[0].size)

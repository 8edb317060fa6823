"""The one driver of keypoint heads: from a feature map to losses and to detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from omnidet.ops.nms import suppress
from omnidet.registry import check_arguments
from omnidet.structures import ImageMeta, Result, Targets

Cfg = Mapping[str, Any]
Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class KeypointTesting:
    """A keypoint head's `test_cfg`.

    Attributes:
        topk: how many peaks of an image become boxes.
        local_maximum_kernel: side of the window in which a peak is the greatest.
        max_per_img: the most detections of an image.
        nms: suppression after that; none where None, as peaks rarely lie on one object twice.
    """

    topk: int = 100
    local_maximum_kernel: int = 3
    max_per_img: int = 100
    nms: Cfg | None = None


class KeypointHead(nn.Module):
    """A keypoint head: the layers that predict, and the two walks that every such head takes.

    A subclass owns the layers and says three things: `forward(feats)` gives maps, `losses(out, targets)` draws the
    ground truth on maps of that size, `decode(out)` finds boxes at their peaks.

    Args:
        test_cfg: the fields of `KeypointTesting`; None for a head that will not predict.
    """

    def __init__(self, test_cfg: Cfg | None) -> None:
        super().__init__()
        if test_cfg is not None:
            check_arguments(KeypointTesting, test_cfg)
            self.testing = KeypointTesting(**test_cfg)

    def losses(self, out: Outputs, targets: Targets) -> dict[str, Tensor]:
        """{name: scalar} of what `forward` gave."""
        raise NotImplementedError(f'{type(self).__name__} does not define losses()')

    def decode(self, out: Outputs) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, k, 4) in pixels of the batch, scores (B, k), labels (B, k), best first."""
        raise NotImplementedError(f'{type(self).__name__} does not define decode()')

    def loss(self, feats: Sequence[Tensor], targets: Targets) -> dict[str, Tensor]:
        """The losses of a batch: {name: scalar}."""
        return self.losses(self(feats), targets)

    def predict(self, feats: Sequence[Tensor], metas: Sequence[ImageMeta], rescale: bool = True) -> list[Result]:
        """The detections of each image, in pixels of its file where `rescale`."""
        return [self._finish(*image, meta, rescale)
                for *image, meta in zip(*self.decode(self(feats)), metas, strict=True)]

    def _finish(self, boxes: Tensor, scores: Tensor, labels: Tensor, meta: ImageMeta, rescale: bool) -> Result:
        if rescale:
            boxes = (boxes - boxes.new_tensor(meta.offset * 2)) / boxes.new_tensor(meta.scale_factor * 2)
        keep, scores = suppress(boxes, scores, labels, self.testing.nms, self.testing.max_per_img)
        return Result(boxes[keep], scores, labels[keep])

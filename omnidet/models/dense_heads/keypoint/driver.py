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
Cell = tuple[float, float]
"""(x, y) pixels of the image for one of a map."""

QUARTER: Cell = (4.0, 4.0)
"""The cells of maps with a quarter of the image's sides (arXiv:1904.07850, section 3: R = 4)."""


@dataclass(frozen=True)
class KeypointTesting:
    """What every keypoint head's `test_cfg` may hold.

    Attributes:
        local_maximum_kernel: side of the window in which a peak is the greatest.
        max_per_img: the most detections of an image.
        nms: suppression after that; none where None, as peaks rarely lie on one object twice.
    """

    local_maximum_kernel: int = 3
    max_per_img: int = 100
    nms: Cfg | None = None


class KeypointHead(nn.Module):
    """A keypoint head: the layers that predict, and the two walks that every such head takes.

    A subclass owns the layers and says three things: `forward(feats)` gives maps, `losses(out, targets, cell)` draws
    the ground truth on maps of that size, `decode(out, cell, origin)` finds boxes at their peaks. Where several feature
    maps come in, as from stacked hourglasses, all of them train and the last one predicts.

    Args:
        test_cfg: the fields of `testing_fields`; None for a head that will not predict.
    """

    testing_fields: type[KeypointTesting] = KeypointTesting
    """What a `test_cfg` may hold."""
    testing: Any

    def __init__(self, test_cfg: Cfg | None) -> None:
        super().__init__()
        if test_cfg is not None:
            check_arguments(self.testing_fields, test_cfg)
            self.testing = self.testing_fields(**test_cfg)

    def losses(self, out: Outputs, targets: Targets, cell: Cell = QUARTER) -> dict[str, Tensor]:
        """{name: scalar} of what `forward` gave."""
        raise NotImplementedError(f'{type(self).__name__} does not define losses()')

    def decode(self, out: Outputs, cell: Cell, origin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, k, 4) in pixels of the batch, scores (B, k), labels (B, k), best first.

        Args:
            out: what `forward` gave.
            cell: pixels for one of the map.
            origin: (B, 2), where each picture begins in the batch, x and y.

        Returns:
            A score below 0 is for a place in the list where there is no box.
        """
        raise NotImplementedError(f'{type(self).__name__} does not define decode()')

    def loss(self, feats: Sequence[Tensor], targets: Targets, size: tuple[int, int] | None = None
             ) -> dict[str, Tensor]:
        """The losses of a batch: {name: scalar}.

        Args:
            feats: one feature map or several of one size, (B, C, H_f, W_f).
            targets: the ground truth.
            size: (H, W) of the batch's images; None where maps have a quarter of it exactly.
        """
        return self.losses(self(feats), targets, _cell(feats, size))

    def predict(self, feats: Sequence[Tensor], metas: Sequence[ImageMeta], rescale: bool = True,
                size: tuple[int, int] | None = None) -> list[Result]:
        """The detections of each image, in pixels of its file where `rescale`; the arguments are those of `loss`."""
        out = self(feats[-1:])
        origin = next(iter(out.values())).new_tensor([meta.offset for meta in metas])
        return [self._finish(*image, meta, rescale)
                for *image, meta in zip(*self.decode(out, _cell(feats, size), origin), metas, strict=True)]

    def _finish(self, boxes: Tensor, scores: Tensor, labels: Tensor, meta: ImageMeta, rescale: bool) -> Result:
        real = scores >= 0
        boxes, scores, labels = boxes[real], scores[real], labels[real]
        if rescale:
            boxes = (boxes - boxes.new_tensor(meta.offset * 2)) / boxes.new_tensor(meta.scale_factor * 2)
        keep, scores = suppress(boxes, scores, labels, self.testing.nms, self.testing.max_per_img)
        return Result(boxes[keep], scores, labels[keep])


def _cell(feats: Sequence[Tensor], size: tuple[int, int] | None) -> Cell:
    if size is None:
        return QUARTER
    h, w = feats[0].shape[-2:]
    return size[1] / w, size[0] / h

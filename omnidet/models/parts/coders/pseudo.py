"""No coding at all."""

from __future__ import annotations

from torch import Tensor

from omnidet.registry import CODERS
from omnidet.structures import Priors


@CODERS.register
class PseudoBBoxCoder:
    """A head that regresses boxes themselves.

    Args:
        use_box_type: accepted as configs carry it; boxes are plain tensors here.
    """

    encode_size = 4

    def __init__(self, use_box_type: bool = False) -> None:
        pass

    def encode(self, priors: Priors, boxes: Tensor) -> Tensor:
        """`boxes`."""
        return boxes

    def decode(self, priors: Priors, deltas: Tensor, max_shape: Tensor | None = None) -> Tensor:
        """`deltas`."""
        return deltas

"""Several versions of one image, for a model to look at each and for their detections to be merged."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any

from omnidet.data.transforms.base import BaseTransform, Compose, Results
from omnidet.errors import ConfigError
from omnidet.registry import TRANSFORMS


@TRANSFORMS.register
class TestTimeAug(BaseTransform):
    """Every way through lists of transforms that takes one transform of each list.

    With `[[Resize a, Resize b], [flip, no flip], [PackDetInputs]]` an image becomes four samples: a flipped, a, b
    flipped, b. The samples are a list, which `collate_versions` turns into one batch for each way.

    Args:
        transforms: lists of transforms.
    """

    __test__ = False    # not a test case, whatever pytest makes of the name

    def __init__(self, transforms: Sequence[Sequence[Any]]) -> None:
        if not transforms or not all(isinstance(step, (list, tuple)) and step for step in transforms):
            raise ConfigError('TestTimeAug.transforms: lists of transforms are wanted, one or more in each')
        self.pipelines = [Compose(way) for way in itertools.product(*transforms)]

    def transform(self, results: Results) -> list[Any] | None:
        versions = [pipeline(copy.deepcopy(results)) for pipeline in self.pipelines]
        return None if any(v is None for v in versions) else versions

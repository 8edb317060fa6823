"""What a transform is, how a pipeline of them is built from a config, and the transforms made of transforms.

A transform takes the dict `results` of one image and returns it changed, or None to drop the image. The keys are
MMDetection's, the values are numpy arrays:

- `img` (h, w, 3) uint8 in BGR; `img_shape`, `ori_shape` (h, w); `scale_factor` (width, height); `img_path`, `img_id`;
- `gt_bboxes` (G, 4) float32, xyxy in pixels of `img`; `gt_bboxes_labels` (G,) int64; `gt_ignore_flags` (G,) bool;
- `gt_masks`, a `PolygonMasks` or `BitmapMasks` (omnidet.data.masks); `gt_seg_map` (h, w) uint8;
- `flip` bool, `flip_direction` str or None; `pad_shape`.

Randomness comes from `random` and `numpy.random`, which are seeded before every sample.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from omnidet.errors import ConfigError
from omnidet.registry import TRANSFORMS

Results = dict[str, Any]


class BaseTransform:
    """The class to derive a transform of one's own from; any object with `transform(results)` will do as well."""

    def __call__(self, results: Results) -> Any:
        return self.transform(results)

    def transform(self, results: Results) -> Any:
        """Change `results` and return it, or return None to drop the image."""
        raise NotImplementedError(f'{type(self).__name__} does not define transform(results)')


Transform = Callable[[Results], Any]


def build_transform(cfg: Mapping[str, Any] | Transform) -> Transform:
    """A transform as a callable, from its config or from an object that is one already.

    Raises:
        ConfigError: there is no such transform, or it has no such argument.
    """
    made = TRANSFORMS.build(cfg) if isinstance(cfg, Mapping) else cfg
    call = getattr(made, 'transform', made)
    if not callable(call):
        raise ConfigError(f'a transform has a method transform(results); {type(made).__name__} has none')
    return made if callable(made) else call


@TRANSFORMS.register
class Compose(BaseTransform):
    """Several transforms, one after another.

    Args:
        transforms: configs of transforms, or transforms.
    """

    def __init__(self, transforms: Iterable[Mapping[str, Any] | Transform]) -> None:
        self.transforms: list[Transform] = [build_transform(t) for t in transforms]

    def transform(self, results: Results) -> Any:
        return run(self.transforms, results)

    def __iter__(self) -> Iterator[Transform]:
        return iter(self.transforms)


def run(transforms: Sequence[Transform], results: Results) -> Any:
    """What the transforms make of `results`; None as soon as one of them drops it."""
    for transform in transforms:
        results = transform(results)
        if results is None:
            return None
    return results


def walk(transform: Any) -> Iterator[Any]:
    """A transform, and all that are inside it."""
    yield transform
    for name in ('transforms', 'pipelines', 'pipeline'):
        inner = getattr(transform, name, ())
        for t in inner if isinstance(inner, (list, tuple)) else [inner]:
            yield from walk(t)


@TRANSFORMS.register
class RandomApply(BaseTransform):
    """Some transforms with a probability, otherwise nothing.

    Args:
        transforms: one transform or several.
        prob: the probability of running them.
    """

    def __init__(self, transforms: Any, prob: float = 0.5) -> None:
        self.pipeline = _as_pipeline(transforms)
        self.prob = prob

    def transform(self, results: Results) -> Any:
        return self.pipeline(results) if np.random.rand() < self.prob else results


@TRANSFORMS.register
class RandomChoice(BaseTransform):
    """One of several pipelines, drawn at random.

    Args:
        transforms: the pipelines to choose from, each a transform or a list of transforms.
        prob: the probability of each; equal where not given.
    """

    def __init__(self, transforms: Sequence[Any], prob: Sequence[float] | None = None) -> None:
        if prob is not None and len(prob) != len(transforms):
            raise ConfigError(f'RandomChoice: {len(prob)} probabilities for {len(transforms)} pipelines')
        self.pipelines = [_as_pipeline(t) for t in transforms]
        self.prob = prob

    def transform(self, results: Results) -> Any:
        return self.pipelines[np.random.choice(len(self.pipelines), p=self.prob)](results)


def keep_instances(results: Results, keep: np.ndarray) -> Results:
    """Keep the instances that `keep` (G,) marks or indexes, in every field that has one entry for each."""
    for key in ('gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags', 'gt_masks'):
        if results.get(key) is not None:
            results[key] = results[key][keep]
    return results


def _as_pipeline(transforms: Any) -> Compose:
    return Compose(transforms if isinstance(transforms, (list, tuple)) else [transforms])


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Make `random` and `numpy.random` a function of `key` inside the block, and put them back after it."""
    before = random.getstate(), np.random.get_state()
    words = np.random.SeedSequence([k & 0xFFFFFFFFFFFFFFFF for k in key]).generate_state(4)
    np.random.seed(words)
    random.seed(words.tobytes())
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])

"""Objects moved a little within their own image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from omnidet.data.outlines import clip_polygon, rasterise
from omnidet.data.transforms.base import BaseTransform, Results
from omnidet.errors import ConfigError
from omnidet.registry import TRANSFORMS

ACTIONS = ('normal', 'horizontal', 'skip')
FILL_SIDE = 160    # pixels: the background behind an object is made up at no finer scale


@TRANSFORMS.register
class InstaBoost(BaseTransform):
    """Move objects by a little, turn and scale them, and fill the gaps they leave (InstaBoost, arXiv:1908.07801).

    It works on `instances`, so it stands between LoadImageFromFile and LoadAnnotations. Objects with polygons move, the
    large ones first; crowds and objects with run lengths stay. What an object uncovers is filled from around it.

    Args:
        action_candidate: what may happen to an object: 'normal' (moved), 'horizontal' (moved and mirrored), 'skip'.
        action_prob: the probability of each.
        scale: the range of the factor of an object's size.
        dx, dy: the most that an object is shifted is its width divided by `dx`, its height divided by `dy`.
        theta: the range of the turn in degrees.
        color_prob: the probability of changing an object's brightness and contrast.
        hflag: place objects by a map of like surroundings; not supported.
        aug_ratio: the probability of changing an image.
    """

    def __init__(self, action_candidate: Sequence[str] = ('normal', 'horizontal', 'skip'),
                 action_prob: Sequence[float] = (1, 0, 0), scale: tuple[float, float] = (0.8, 1.2), dx: float = 15,
                 dy: float = 15, theta: tuple[float, float] = (-1, 1), color_prob: float = 0.5, hflag: bool = False,
                 aug_ratio: float = 0.5) -> None:
        if hflag:
            raise ConfigError('InstaBoost.hflag: placing objects by a map of likeness is not supported')
        if set(action_candidate) - set(ACTIONS) or len(action_prob) != len(action_candidate):
            raise ConfigError(f'InstaBoost: some of {", ".join(map(repr, ACTIONS))} are wanted with as many '
                              f'probabilities; found {action_candidate!r} and {action_prob!r}')
        self.actions = list(action_candidate)
        self.action_prob = np.asarray(action_prob, float) / np.sum(action_prob)
        self.scale = scale
        self.dx = dx
        self.dy = dy
        self.theta = theta
        self.color_prob = color_prob
        self.aug_ratio = aug_ratio

    def transform(self, results: Results) -> Results:
        if np.random.rand() >= self.aug_ratio:
            return results
        source = results['img']
        h, w = source.shape[:2]
        image, instances = source.copy(), [dict(i) for i in results.get('instances', [])]
        shapes = [rasterise(i['mask'], h, w) if _is_movable(i) else None for i in instances]
        sizes = [0 if s is None else s[1].sum() for s in shapes]
        for n in np.argsort(-np.asarray(sizes, float), kind='stable'):
            shape, action = shapes[n], self.actions[np.random.choice(len(self.actions), p=self.action_prob)]
            if shape is None or not sizes[n] or action == 'skip':
                continue
            matrix = self._draw(shape[0], action == 'horizontal')
            polygons = _moved(instances[n]['mask'], matrix, h, w)
            if polygons:
                look = self._draw_look() if np.random.rand() < self.color_prob else (1.0, 0.0)
                _paste(image, source, shape, matrix, look)
                points = np.concatenate(polygons).reshape(-1, 2)
                instances[n].update(mask=polygons, bbox=[*points.min(axis=0).tolist(), *points.max(axis=0).tolist()])
        return {**results, 'img': image, 'instances': instances}

    def _draw(self, window: tuple[int, int, int, int], mirrored: bool) -> np.ndarray:
        """(2, 3), where a point of an object in `window` goes."""
        x1, y1, x2, y2 = window
        centre = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
        factor, angle = np.random.uniform(*self.scale), np.deg2rad(np.random.uniform(*self.theta))
        shift = np.random.uniform(-1, 1, 2) * [(x2 - x1) / self.dx, (y2 - y1) / self.dy]
        turn = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        turn = turn @ np.diag([-1.0 if mirrored else 1.0, 1.0])
        return np.concatenate([turn, (centre + shift - turn @ centre)[:, None]], axis=1)

    @staticmethod
    def _draw_look() -> tuple[float, float]:
        """A factor of contrast and an amount of brightness."""
        return float(np.random.uniform(0.8, 1.2)), float(np.random.uniform(-16, 16))


def _is_movable(instance: Mapping[str, Any]) -> bool:
    mask = instance.get('mask')
    return bool(mask) and not isinstance(mask, Mapping) and not instance.get('ignore_flag', 0)


def _moved(polygons: Sequence[Any], matrix: np.ndarray, h: int, w: int) -> list[np.ndarray]:
    """The polygons where `matrix` puts them, cut to the image."""
    parts = [np.asarray(p, np.float64).reshape(-1, 2) @ matrix[:, :2].T + matrix[:, 2] for p in polygons]
    return [cut for part in parts if len(cut := clip_polygon(part, w, h))]


def _paste(image: np.ndarray, source: np.ndarray, shape: tuple[tuple[int, int, int, int], np.ndarray],
           matrix: np.ndarray, look: tuple[float, float]) -> None:
    """Draw an object of `source` where `matrix` puts it, after filling where it was, in place."""
    h, w = image.shape[:2]
    (x1, y1, x2, y2), crop = shape
    corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]) @ matrix[:, :2].T + matrix[:, 2]
    reach = np.concatenate([corners, [[x1, y1], [x2, y2]]])
    margin = 4 + max(x2 - x1, y2 - y1) // 8
    left, top = np.maximum(np.floor(reach.min(axis=0)).astype(int) - margin, 0)
    right, bottom = np.minimum(np.ceil(reach.max(axis=0)).astype(int) + margin, [w, h])
    inside = np.zeros((bottom - top, right - left), np.uint8)
    inside[y1 - top:y2 - top, x1 - left:x2 - left] = crop
    view = image[top:bottom, left:right]
    # OpenCV counts from the pixels' centres, and here from the window's corner
    offset = np.array([left, top], np.float64) + 0.5
    local = np.concatenate([matrix[:, :2], (matrix[:, :2] @ offset + matrix[:, 2] - offset)[:, None]], axis=1)
    size = (int(right - left), int(bottom - top))
    alpha = cv2.warpAffine(cv2.GaussianBlur(inside.astype(np.float32), (3, 3), 0), local, size)[..., None]
    pixels = cv2.warpAffine(source[top:bottom, left:right], local, size, borderMode=cv2.BORDER_REPLICATE)
    pixels = pixels.astype(np.float32) * look[0] + look[1]
    filled = np.where(inside[..., None] > 0, _background(view, inside), view).astype(np.float32)
    view[:] = (filled * (1 - alpha) + pixels.reshape(filled.shape) * alpha).round().clip(0, 255).astype(view.dtype)


def _background(view: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """What may be behind the pixels that `inside` marks, made up from those around them."""
    h, w = inside.shape
    factor = min(1.0, FILL_SIDE / max(h, w))
    size = (max(int(w * factor), 1), max(int(h * factor), 1))
    hole = cv2.dilate(inside, np.ones((5, 5), np.uint8))
    small_hole = (cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
    small = cv2.resize(view, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return cv2.resize(cv2.inpaint(small, small_hole, 3, cv2.INPAINT_TELEA), (w, h)).reshape(view.shape)

"""A synthetic detection set: shapes of six classes on textured backgrounds, written in COCO's format.

Everything follows from the seed: the same seed gives the same pixels and the same json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES = ('circle', 'square', 'triangle', 'star', 'cross', 'ring')
OVERSAMPLING = 4
"""Sub-pixels along each axis of a pixel; the share that a shape covers becomes its opacity there."""

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """One picture and what is in it.

    Attributes:
        image: (size, size, 3) uint8, BGR.
        boxes: (G, 4) float64, xyxy in pixels, the tightest around the pixels that a shape touches.
        labels: (G,) int64, indices into `CLASSES`.
    """

    image: Image
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]


def render_scene(rng: np.random.Generator, size: int = 160, max_shapes: int = 8) -> Scene:
    """Draw one picture with one to `max_shapes` shapes that hardly overlap.

    Args:
        rng: where all chance comes from.
        size: width and height in pixels.
        max_shapes: the most shapes in it.
    """
    image = render_background(rng, size)
    boxes: list[NDArray[np.float64]] = []
    labels: list[int] = []
    for _ in range(int(rng.integers(1, max_shapes + 1))):
        for _attempt in range(20):
            label = int(rng.integers(len(CLASSES)))
            cover = render_cover(rng, CLASSES[label], size)
            box = cover_box(cover)
            if all(_overlap(box, other) < 0.05 for other in boxes):
                break
        else:
            continue    # the picture is full
        image = paint(rng, image, cover)
        boxes.append(box)
        labels.append(label)
    return Scene(image, np.array(boxes).reshape(-1, 4), np.array(labels, dtype=np.int64))


def render_background(rng: np.random.Generator, size: int) -> Image:
    """A dim texture: clouds of two sizes, stripes in some direction, and grain."""
    texture = np.zeros((size, size, 3))
    for cells, strength in ((3, 35.0), (12, 14.0)):
        noise = rng.uniform(-strength, strength, (cells, cells, 3))
        texture += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    angle, period = rng.uniform(0, np.pi), rng.uniform(8, 40)
    y, x = np.mgrid[:size, :size]
    stripes = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period)
    texture += rng.uniform(0, 14) * stripes[..., None] + rng.normal(0, 5, (size, size, 3))
    return _to_uint8(texture + rng.uniform(50, 190, 3))


def render_cover(rng: np.random.Generator, name: str, size: int) -> NDArray[np.float64]:
    """How much of every pixel a shape of class `name`, of some size, place and rotation, covers: (size, size), 0..1."""
    radius = rng.uniform(0.06, 0.19) * size
    centre = rng.uniform(radius, size - radius, 2)
    angle = rng.uniform(0, 2 * np.pi)
    canvas = np.zeros((size * OVERSAMPLING, size * OVERSAMPLING), np.uint8)
    for outline, value in zip(outlines(name), (255, 0), strict=False):    # a second outline is a hole
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = (outline @ turn.T * radius + centre) * OVERSAMPLING - 0.5
        cv2.fillPoly(canvas, [np.round(points).astype(np.int32)], value)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA) / 255


def outlines(name: str) -> list[NDArray[np.float64]]:
    """The polygons of a class inside the unit circle: its outline, and a hole where it has one."""
    if name == 'circle':
        return [_star_polygon(64)]
    if name == 'ring':
        return [_star_polygon(64), _star_polygon(64) * 0.55]
    if name == 'square':
        return [_star_polygon(4)]
    if name == 'triangle':
        return [_star_polygon(3)]
    if name == 'star':
        return [_star_polygon(5, inner=0.42)]
    if name == 'cross':
        a, b = 0.95, 0.3
        corners = [(b, a), (b, b), (a, b), (a, -b), (b, -b), (b, -a),
                   (-b, -a), (-b, -b), (-a, -b), (-a, b), (-b, b), (-b, a)]
        return [np.array(corners)]
    raise ValueError(f'there is no shape {name!r}; there are {", ".join(CLASSES)}')


def paint(rng: np.random.Generator, image: Image, cover: NDArray[np.float64]) -> Image:
    """The image with the shape, grained too, in a colour that stands out from what it covers."""
    behind = (image * cover[..., None]).sum(axis=(0, 1)) / cover.sum()
    while True:
        colour = rng.uniform(0, 255, 3)
        if np.linalg.norm(colour - behind) > 110:
            break
    surface = colour + rng.normal(0, 6, image.shape)
    return _to_uint8(image * (1 - cover[..., None]) + surface * cover[..., None])


def cover_box(cover: NDArray[np.float64]) -> NDArray[np.float64]:
    """The tightest xyxy box around all pixels that are covered at all."""
    ys, xs = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
    return np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], dtype=np.float64)


def write_dataset(root: Path, counts: dict[str, int], seed: int = 0, size: int = 160) -> None:
    """Render a set into `root`: a folder of PNG images for each split and `annotations/<split>.json`.

    Args:
        root: made where it does not exist.
        counts: images of each split: `{'train': 400, 'val': 60}`.
        seed: the same seed gives the same files; splits share no picture.
        size: width and height of the images, in pixels.
    """
    (root / 'annotations').mkdir(parents=True, exist_ok=True)
    for number, (split, count) in enumerate(counts.items()):
        (root / split).mkdir(exist_ok=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for i in range(count):
            scene = render_scene(np.random.default_rng([seed, number, i]), size)
            name = f'{i + 1:05d}.png'
            (root / split / name).write_bytes(cv2.imencode('.png', scene.image)[1].tobytes())
            images.append(dict(id=i + 1, file_name=name, width=size, height=size))
            for (x1, y1, x2, y2), label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True):
                annotations.append(dict(id=len(annotations) + 1, image_id=i + 1, category_id=label + 1, iscrowd=0,
                                        bbox=[x1, y1, x2 - x1, y2 - y1], area=(x2 - x1) * (y2 - y1)))
        content = dict(images=images, annotations=annotations,
                       categories=[dict(id=k + 1, name=name) for k, name in enumerate(CLASSES)])
        (root / 'annotations' / f'{split}.json').write_text(json.dumps(content))


def _star_polygon(points: int, inner: float | None = None) -> NDArray[np.float64]:
    """A regular polygon in the unit circle, or with `inner` a star whose dents lie at that radius."""
    radii = np.ones(points) if inner is None else np.tile([1.0, inner], points)
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    return radii[:, None] * np.stack([np.sin(angles), -np.cos(angles)], axis=1)


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The share of the smaller box that the other covers."""
    inner = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return float(inner / min((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod()))


def _to_uint8(image: NDArray[np.float64]) -> Image:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)

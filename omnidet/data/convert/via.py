"""VIA (VGG Image Annotator): a folder of images with one json of regions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omnidet.data.convert.coco_file import CocoWriter, check_folder
from omnidet.data.datasets.coco import load_json
from omnidet.errors import DatasetError

NAMES = ('class', 'label', 'name', 'category', 'type')
CORNERS = 48    # of the polygon that stands for a circle or an ellipse


def via_to_coco(root: Path | str, split: str, out: Path | str, classes: Sequence[str] | None = None) -> dict[str, Any]:
    """Convert one folder of images with VIA's regions (versions 1 and 2).

    Polygons, rectangles, circles and ellipses are kept as outlines with their boxes and areas. A region's class is its
    attribute class, label, name, category or type, else its first; a region without attributes is of the only class of
    `classes`, or 'object'.

    Args:
        root: the folder; or one with a folder for each split.
        split: the folder in `root`, where there is one of that name.
        out: the json to write.
        classes: the classes to keep, in the order of their ids; by default all that occur, by name.

    Returns:
        What was written, and what was left out and why, as `CocoWriter.write`.

    Raises:
        DatasetError: there is no json of VIA's, or several.
    """
    root = Path(root)
    check_folder(root)
    folder = root / split if (root / split).is_dir() else root
    entries = _entries(folder)
    default = classes[0] if classes is not None and len(classes) == 1 else 'object'
    if classes is None:
        classes = sorted({_label(r, default) for e in entries for r in _regions(e)})
    writer = CocoWriter(classes, folder)
    for entry in entries:
        image = writer.add_image(folder / str(entry['filename']))
        if image is None:
            continue
        for region in _regions(entry):
            polygon = _outline(region.get('shape_attributes') or {})
            if polygon is None:
                shape = (region.get('shape_attributes') or {}).get('name')
                writer.skip(f'regions of shape {shape!r}, which have no area', image['file_name'])
            else:
                x, y = polygon[0::2], polygon[1::2]
                writer.add_box(image, _label(region, default), (min(x), min(y), max(x), max(y)), polygon)
    return writer.write(Path(out))


def _entries(folder: Path) -> list[dict[str, Any]]:
    """The images' entries of the folder's VIA json."""
    found = []
    for file in sorted(folder.glob('*.json')):
        data = load_json(file)
        if isinstance(data, Mapping):
            values = list((data.get('_via_img_metadata') or data).values())
            if values and all(isinstance(v, Mapping) and 'filename' in v and 'regions' in v for v in values):
                found.append((file, [dict(v) for v in values]))
    if len(found) != 1:
        raise DatasetError(f'{folder}: one json with regions of VIA is wanted; found '
                           + (', '.join(f.name for f, _ in found) or 'none'))
    return found[0][1]


def _regions(entry: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Version 1 numbers the regions in a dict, version 2 lists them."""
    regions = entry['regions']
    yield from regions.values() if isinstance(regions, Mapping) else regions


def _label(region: Mapping[str, Any], default: str) -> str:
    attributes = region.get('region_attributes') or {}
    for key in (*(n for n in NAMES if n in attributes), *attributes):
        value = attributes[key]
        if isinstance(value, Mapping):    # a checkbox: {'cat': true}
            value = next((k for k, v in value.items() if v), '')
        if str(value).strip():
            return str(value).strip()
    return default


def _outline(shape: Mapping[str, Any]) -> list[float] | None:
    """x, y, x, y, ... of a region; None for points and lines, or where a number is missing."""
    try:
        kind = shape.get('name')
        if kind in ('polygon', 'polyline'):
            points = list(zip(shape['all_points_x'], shape['all_points_y'], strict=True))
            return [float(v) for p in points for v in p] if len(points) >= 3 else None
        if kind == 'rect':
            x, y, w, h = (float(shape[k]) for k in ('x', 'y', 'width', 'height'))
            return [x, y, x + w, y, x + w, y + h, x, y + h]
        if kind in ('circle', 'ellipse'):
            rx, ry = (float(shape['r']),) * 2 if kind == 'circle' else (float(shape['rx']), float(shape['ry']))
            return _ellipse(float(shape['cx']), float(shape['cy']), rx, ry, float(shape.get('theta', 0)))
    except (KeyError, TypeError, ValueError):
        pass
    return None


def _ellipse(cx: float, cy: float, rx: float, ry: float, theta: float) -> list[float]:
    out = []
    for i in range(CORNERS):
        a = 2 * math.pi * i / CORNERS
        u, v = rx * math.cos(a), ry * math.sin(a)
        out += [cx + u * math.cos(theta) - v * math.sin(theta), cy + u * math.sin(theta) + v * math.cos(theta)]
    return out

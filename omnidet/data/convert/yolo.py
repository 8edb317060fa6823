"""YOLO's layout: images/SPLIT/ beside labels/SPLIT/*.txt, and a data.yaml with the classes' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from omnidet.data.convert.coco_file import IMAGE_SUFFIXES, CocoWriter, check_folder
from omnidet.errors import DatasetError


def yolo_to_coco(root: Path | str, split: str, out: Path | str, classes: Sequence[str] | None = None) -> dict[str, Any]:
    """Convert one split of a set in YOLO's layout (v5 and later).

    A line of a label file is `class cx cy w h`, or `class x y x y ...` for an outline, as fractions of the image. An
    image without a label file has no objects.

    Args:
        root: the folder of the set, or its data.yaml.
        split: 'train', 'val', 'test': a key of data.yaml, or a folder in images/.
        out: the json to write.
        classes: with a data.yaml, the classes to keep, in the order of their ids; without one, the names of the label
            files' numbers.

    Returns:
        What was written, and what was left out and why, as `CocoWriter.write`.

    Raises:
        DatasetError: there are no names for the classes, or no such split.
    """
    root = Path(root)
    file = root if root.suffix in ('.yaml', '.yml') else _find_yaml(root)
    folder = root.parent if file is root else root
    check_folder(folder)
    data = _read_yaml(file) if file is not None else {}
    names = _names(data, folder, classes)
    images = _images(data, folder, split)
    common = images[0].parent if images else folder
    while not all(common in p.parents for p in images):
        common = common.parent
    writer = CocoWriter(classes or names, common)
    for path in images:
        image = writer.add_image(path)
        if image is not None:
            _add_labels(writer, image, _label_file(path), names)
    return writer.write(Path(out))


def _add_labels(writer: CocoWriter, image: dict[str, Any], file: Path, names: Sequence[str]) -> None:
    if not file.is_file():
        return
    width, height = image['width'], image['height']
    for n, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            number, *values = line.split()
            name, numbers = names[_index(number)], [float(v) for v in values]
        except (ValueError, IndexError):
            writer.skip('lines that are no label', f'{file.name}:{n}')
            continue
        if len(numbers) == 4:
            cx, cy, w, h = numbers
            x1, x2 = ((cx + s * w / 2) * width for s in (-1, 1))
            y1, y2 = ((cy + s * h / 2) * height for s in (-1, 1))
            polygon = None
        elif len(numbers) >= 6 and len(numbers) % 2 == 0:
            polygon = [min(max(v, 0.0), 1.0) * (height if i % 2 else width) for i, v in enumerate(numbers)]
            x1, x2, y1, y2 = min(polygon[0::2]), max(polygon[0::2]), min(polygon[1::2]), max(polygon[1::2])
        else:
            writer.skip('lines that are no label', f'{file.name}:{n}')
            continue
        box = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
        writer.add_box(image, name, box, polygon)


def _index(number: str) -> int:
    """A class's number; some tools write it as 3.0."""
    value = float(number)
    if value < 0 or not value.is_integer():
        raise ValueError(number)
    return int(value)


def _find_yaml(root: Path) -> Path | None:
    known = root / 'data.yaml'
    others = sorted([*root.glob('*.yaml'), *root.glob('*.yml')]) if root.is_dir() else []
    return known if known.is_file() else others[0] if len(others) == 1 else None


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as e:
        raise DatasetError(f'{file}: cannot be read: {e}') from e
    if not isinstance(data, dict):
        raise DatasetError(f'{file}: a dict with names and splits is wanted; found a {type(data).__name__}')
    return data


def _names(data: Mapping[str, Any], folder: Path, classes: Sequence[str] | None) -> list[str]:
    """The names of the label files' numbers."""
    names = data.get('names')
    if isinstance(names, Mapping):
        return [str(names.get(i, i)) for i in range(max(map(int, names)) + 1)]
    if isinstance(names, Sequence) and not isinstance(names, str):
        return [str(n) for n in names]
    for file in (folder / 'classes.txt', folder / 'obj.names'):
        if file.is_file():
            return [line.strip() for line in file.read_text().splitlines() if line.strip()]
    if classes is None:
        raise DatasetError(f'{folder}: nothing names the classes: neither names in a data.yaml nor classes.txt; '
                           'pass them (--classes)')
    return list(classes)


def _images(data: Mapping[str, Any], folder: Path, split: str) -> list[Path]:
    """The image files of a split, sorted."""
    base = folder / str(data.get('path', '')) if (folder / str(data.get('path', ''))).is_dir() else folder
    entries = data.get(split, data.get('val' if split == 'valid' else 'valid' if split == 'val' else split))
    if entries is None:
        candidates = [folder / 'images' / split, folder / split / 'images', folder / split]
        entries = [str(p.relative_to(base)) if base in p.parents else str(p) for p in candidates if p.is_dir()][:1]
    found: list[Path] = []
    for entry in [entries] if isinstance(entries, str) else entries:
        places = [base / entry, folder / entry, folder / entry.removeprefix('../')]    # Roboflow's paths lead one up
        place = next((p for p in places if p.exists()), None)
        if place is None:
            raise DatasetError(f'{places[0]}: there is no such folder or list (split {split!r})')
        if place.is_file():
            found += [p if p.is_absolute() else place.parent / p
                      for line in place.read_text().splitlines() if line.strip() for p in [Path(line.strip())]]
        else:
            found += [p for p in place.rglob('*') if p.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        there = [k for k in ('train', 'val', 'valid', 'test') if k in data or (folder / 'images' / k).is_dir()]
        raise DatasetError(f'{folder}: there are no images of a split {split!r}; splits: {", ".join(there) or "none"}')
    return sorted(found)


def _label_file(image: Path) -> Path:
    """labels/ in place of the last images/ of the path, .txt for the suffix."""
    parts = list(image.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == 'images':
            parts[i] = 'labels'
            break
    return Path(*parts).with_suffix('.txt')

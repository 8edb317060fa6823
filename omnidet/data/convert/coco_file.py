"""A COCO json in the making: what the converters write to."""

from __future__ import annotations

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from omnidet.errors import DatasetError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


class CocoWriter:
    """Collects images and boxes, counts what cannot be used, and writes the json.

    Ids of images, annotations and categories count from 1.

    Args:
        classes: the names of the classes, in the order of their ids.
        folder: what file names are relative to: `data_prefix=dict(img=...)` of the data set.
    """

    def __init__(self, classes: Sequence[str], folder: Path) -> None:
        self.folder = folder
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.category_ids = {name: i for i, name in enumerate(classes, 1)}
        self.skipped: dict[str, list[str]] = defaultdict(list)

    def add_image(self, path: Path) -> dict[str, Any] | None:
        """An image's entry, with the size from the file's header; None, counted, where there is no such image."""
        try:
            width, height = image_size(path)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            self.skip('images that are missing or cannot be read', path.name)
            return None
        entry = dict(id=len(self.images) + 1, file_name=path.relative_to(self.folder).as_posix(), width=width,
                     height=height)
        self.images.append(entry)
        return entry

    def add_box(self, image: dict[str, Any], name: str, box: Sequence[float],
                polygon: Sequence[float] | None = None, **more: Any) -> None:
        """A box of an image; counted where it has no area or is of no class that is kept.

        Args:
            image: what `add_image` gave.
            name: its class.
            box: (4,) xyxy in pixels.
            polygon: its outline x, y, x, y, ... in pixels.
            more: further fields of the annotation.
        """
        x1, y1, x2, y2 = box
        if name not in self.category_ids:
            self.skip(f'boxes of class {name!r}, which is not kept', image['file_name'])
        elif not (x2 > x1 and y2 > y1):
            self.skip('boxes without area', f'{image["file_name"]} {[*map(_short, box)]}')
        else:
            bbox = [_short(v) for v in (x1, y1, x2 - x1, y2 - y1)]
            area = _short(bbox[2] * bbox[3]) if polygon is None else _short(polygon_area(polygon))
            self.annotations.append(dict(
                id=len(self.annotations) + 1, image_id=image['id'], category_id=self.category_ids[name], bbox=bbox,
                area=area, iscrowd=0, segmentation=[] if polygon is None else [[_short(v) for v in polygon]], **more))

    def skip(self, reason: str, where: str) -> None:
        """Count something that is left out."""
        self.skipped[reason].append(where)

    def write(self, out: Path) -> dict[str, Any]:
        """Write the json; it appears whole or not at all.

        Returns:
            images, boxes and classes: how many were written; folder: what their names are relative to; skipped: for
            each reason how many were left out, and the first few.

        Raises:
            DatasetError: there is no image to write, or the file cannot be written.
        """
        skipped = {reason: f'{len(w)} ({", ".join(w[:5])}{", ..." if len(w) > 5 else ""})'
                   for reason, w in self.skipped.items()}
        if not self.images:
            raise DatasetError(f'{self.folder}: no image to convert; left out: {skipped or "nothing"}')
        categories = [dict(id=i, name=name, supercategory='none') for name, i in self.category_ids.items()]
        write_json(out, dict(images=self.images, annotations=self.annotations, categories=categories))
        return dict(images=len(self.images), boxes=len(self.annotations), classes=len(categories),
                    folder=str(self.folder), skipped=skipped)


def write_json(path: Path, data: Any) -> None:
    """Write a json file; it appears whole or not at all.

    Raises:
        DatasetError: it cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile('w', dir=path.parent, prefix=path.name, delete=False, encoding='utf-8') as f:
            temporary = Path(f.name)
            json.dump(data, f, ensure_ascii=False)
        os.chmod(temporary, 0o644)    # noqa: PTH101  (a temporary file is private)
        temporary.replace(path)
    except OSError as e:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise DatasetError(f'{path}: cannot be written: {e.strerror or e}') from e


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of an image as it is shown, from its header: the camera's rotation is applied.

    Raises:
        OSError: there is no such file, or it is no image.
    """
    with Image.open(path) as image:
        width, height = image.size
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)    # the tag Orientation: a quarter turn
    return (height, width) if turned else (width, height)


def find_image(folder: Path, stem: str) -> Path:
    """The image `stem` with whatever suffix it has; with '.jpg' where there is none."""
    names = (folder / f'{stem}{suffix}' for s in IMAGE_SUFFIXES for suffix in (s, s.upper()))
    return next((p for p in names if p.is_file()), folder / f'{stem}.jpg')


def polygon_area(polygon: Sequence[float]) -> float:
    """The area inside x, y, x, y, ... in square pixels."""
    x, y = polygon[0::2], polygon[1::2]
    return abs(sum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(len(x)))) / 2


def check_folder(root: Path) -> None:
    """Raises DatasetError where `root` is no folder."""
    if not root.is_dir():
        raise DatasetError(f'{root}: there is no such folder')


def _short(value: float) -> float | int:
    """Whole numbers without a point, others with three decimals."""
    return int(value) if float(value).is_integer() else round(float(value), 3)

"""Pascal VOC: Annotations/*.xml, JPEGImages/, ImageSets/Main/SPLIT.txt."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omnidet.data.convert.coco_file import CocoWriter, check_folder, find_image
from omnidet.errors import DatasetError


def voc_to_coco(root: Path | str, split: str, out: Path | str, classes: Sequence[str] | None = None) -> dict[str, Any]:
    """Convert one split of a set in Pascal VOC's layout.

    Corners are taken as they stand: x = xmin, y = ymin, w = xmax - xmin, h = ymax - ymin. An object that is `difficult`
    is kept, with `difficult: 1` in its annotation, and is no crowd.

    Args:
        root: the folder with Annotations/ and JPEGImages/.
        split: the name of a list in ImageSets/Main; without that folder 'all' takes every xml.
        out: the json to write.
        classes: the classes to keep, in the order of their ids; by default all that occur in any split, by name.

    Returns:
        What was written, and what was left out and why, as `CocoWriter.write`.

    Raises:
        DatasetError: the folder is none of VOC's, or has no such split.
    """
    root = Path(root)
    check_folder(root)
    annotations = root / 'Annotations'
    if not annotations.is_dir():
        raise DatasetError(f'{root}: a set in the format of Pascal VOC has a folder Annotations; this one has '
                           f'{sorted(p.name for p in root.iterdir())[:10]}')
    stems = _stems(root, split)
    if classes is None:
        names = {name for xml in annotations.glob('*.xml') for name, *_ in _objects(xml) or ()}
        classes = sorted(names)
    writer = CocoWriter(classes, root / 'JPEGImages')
    for stem in stems:
        xml = annotations / f'{stem}.xml'
        objects = _objects(xml)
        if objects is None:
            writer.skip('annotations that are missing or no xml', xml.name)
            continue
        image = writer.add_image(find_image(writer.folder, stem))
        if image is None:
            continue
        for name, box, difficult in objects:
            if box is None:
                writer.skip('objects without a box of four numbers', xml.name)
            else:
                writer.add_box(image, name, box, difficult=difficult)
    return writer.write(Path(out))


def _stems(root: Path, split: str) -> list[str]:
    """The names of a split's images, without suffix."""
    lists = root / 'ImageSets' / 'Main'
    file = lists / f'{split}.txt'
    if file.is_file():
        return [line.split()[0] for line in file.read_text().splitlines() if line.strip()]
    if not lists.is_dir() and split == 'all':
        return sorted(p.stem for p in (root / 'Annotations').glob('*.xml'))
    there = sorted(p.stem for p in lists.glob('*.txt')) if lists.is_dir() else []
    raise DatasetError(f'{file}: there is no split {split!r}; '
                       + (f'there are {", ".join(there)}' if there else "ask for 'all' to take every xml"))


def _objects(xml: Path) -> list[tuple[str, list[float] | None, int]] | None:
    """(class, xyxy box or None, difficult) of each object; None where the file cannot be read."""
    try:
        tree = ElementTree.parse(xml).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    out = []
    for item in tree.iter('object'):
        corners = [item.findtext(f'bndbox/{k}') for k in ('xmin', 'ymin', 'xmax', 'ymax')]
        try:
            box: list[float] | None = [float(c or '') for c in corners]
        except ValueError:
            box = None
        name, difficult = (item.findtext('name') or '').strip(), (item.findtext('difficult') or '').strip()
        out.append((name, box, int(difficult == '1')))
    return out

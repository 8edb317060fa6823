"""COCO's panoptic annotations: every pixel of an image belongs to one segment, of a thing or of stuff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omnidet.data.datasets.coco import CocoDataset, CocoFile, load_json, match_classes, pack, parse_coco
from omnidet.data.datasets.coco_classes import COCO_CLASSES, COCO_PALETTE, COCO_STUFF_CLASSES, COCO_STUFF_PALETTE
from omnidet.data.store import AnnotationStore
from omnidet.errors import DatasetError
from omnidet.registry import DATASETS


@DATASETS.register
class CocoPanopticDataset(CocoDataset):
    """A data set in COCO's panoptic format: a json, and a folder `data_prefix.seg` with a png for each image.

    A pixel of a png holds the id of its segment as R + 256 G + 65536 B. Labels follow the order of the class names:
    those of things first, as panoptic heads count them. Arguments as `BaseDetDataset`.

    `load` gives `instances`, the things that are no crowds, and `segments_info`, a dict of id, category (a label) and
    is_thing for every segment, in the same order.
    """

    METAINFO: Mapping[str, Any] = {
        'classes': COCO_CLASSES + COCO_STUFF_CLASSES, 'thing_classes': COCO_CLASSES,
        'stuff_classes': COCO_STUFF_CLASSES, 'palette': COCO_PALETTE + COCO_STUFF_PALETTE}

    thing_labels: frozenset[int] = frozenset()    # known once the file is read

    @property
    def wants_masks(self) -> bool:
        """False: the masks are in the png files."""
        return False

    def read(self) -> tuple[AnnotationStore, list[int]]:
        """Read, filter and pack the segments; the store, and the file's category id of each class.

        Raises:
            DatasetError: the file is missing or damaged, is no panoptic COCO json, or its classes are others.
        """
        data = load_json(self.ann_path)
        file = parse_coco(self.ann_path, {**data, 'annotations': _segments(self.ann_path, data)}
                          if isinstance(data, Mapping) else data)
        cat_ids = match_classes(file, self.classes, strict=self.classes_given)
        things = {c['id'] for c in data['categories'] if c.get('isthing', 1)}
        self.thing_labels = frozenset(n for n, cat_id in enumerate(cat_ids) if cat_id in things)
        images = self._filter(file, cat_ids)
        return pack(file, images, cat_ids, with_masks=False), cat_ids

    def learnable(self, file: CocoFile, cat_ids: Sequence[int]) -> np.ndarray:
        """(M,) bool, the segments of things."""
        return np.isin(file.category_of, [cat_ids[n] for n in self.thing_labels])

    def load(self, index: int) -> dict[str, Any]:
        """As `BaseDetDataset.load`, with the segments in `segments_info`."""
        info = super().load(index)
        segments = info['instances']
        thing = [s['bbox_label'] in self.thing_labels and not s['ignore_flag'] for s in segments]
        info['segments_info'] = [dict(id=s['id'], category=s['bbox_label'], is_thing=t)
                                 for s, t in zip(segments, thing, strict=True)]
        info['instances'] = [s for s, t in zip(segments, thing, strict=True) if t]
        return info

    def get_cat_ids(self, index: int) -> list[int]:
        """The labels of an image's instances."""
        return [instance['bbox_label'] for instance in self.load(index)['instances']]


def _segments(path: Path, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The segments of all images, as annotations of boxes.

    Raises:
        DatasetError: an annotation without segments.
    """
    rows = []
    for n, annotation in enumerate(data.get('annotations', [])):
        if not isinstance(annotation, Mapping) or not isinstance(annotation.get('segments_info'), list):
            raise DatasetError(f'{path}: annotations[{n}] has no list segments_info; this is no panoptic COCO json '
                               '(for instances use CocoDataset)')
        for segment in annotation['segments_info']:
            if 'id' not in segment:
                raise DatasetError(f'{path}: annotations[{n}].segments_info has a segment without an id, the value of '
                                   'its pixels in the png')
            row = {k: v for k, v in segment.items() if k != 'id'}    # ids are unique within an image alone
            rows.append({**row, 'segment_id': segment['id'], 'image_id': annotation.get('image_id')})
    return rows

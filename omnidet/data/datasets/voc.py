"""Pascal VOC's annotation format: a list of names, and an XML file for each image."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from omnidet.data.datasets.base import BaseDetDataset
from omnidet.data.transforms.loading import read_image
from omnidet.errors import DatasetError, did_you_mean
from omnidet.registry import DATASETS

log = logging.getLogger('omnidet')

VOC_CLASSES = (
    'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow', 'diningtable', 'dog',
    'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor')

VOC_PALETTE = (
    (106, 0, 228), (119, 11, 32), (165, 42, 42), (0, 0, 192), (197, 226, 255), (0, 60, 100), (0, 0, 142),
    (255, 77, 255), (153, 69, 1), (120, 166, 157), (0, 182, 199), (0, 226, 252), (182, 182, 255), (0, 0, 230),
    (220, 20, 60), (163, 255, 0), (0, 82, 0), (3, 95, 161), (0, 80, 100), (183, 130, 88))


@DATASETS.register
class XMLDataset(BaseDetDataset):
    """A data set in Pascal VOC's format, with classes of one's own (`metainfo`).

    `ann_file` lists the images' names, one on a line (`VOC2007/ImageSets/Main/trainval.txt`). Pixels are counted from 1
    in the XML files and from 0 here. Objects of other classes are left out; a `difficult` one is ignored: it is neither
    an object to find nor background. Boxes without area are left out and counted in one warning.

    Args:
        img_subdir, ann_subdir: the folders of images and XML files, in `data_prefix['sub_data_root']`.
        data_prefix: dict(sub_data_root=...): the folder of both, relative to `data_root`, which it is by
            default.
        filter_cfg: as in `BaseDetDataset`; with `bbox_min_size=` an object below that width or height is ignored in
            training.
        ann_file, metainfo, data_root, indices, serialize_data, pipeline, test_mode, lazy_init, max_refetch,
            seg_map_suffix, proposal_file, file_client_args, backend_args, return_classes: as in `BaseDetDataset`.
    """

    def __init__(self, ann_file: str = '', metainfo: Mapping[str, Any] | None = None, data_root: str | None = '',
                 data_prefix: Mapping[str, str] | None = None, filter_cfg: Mapping[str, Any] | None = None,
                 indices: int | Sequence[int] | None = None, serialize_data: bool = True, pipeline: Sequence[Any] = (),
                 test_mode: bool = False, lazy_init: bool = False, max_refetch: int = 1000,
                 seg_map_suffix: str = '.png', proposal_file: str | None = None,
                 file_client_args: Mapping[str, Any] | None = None, backend_args: Mapping[str, Any] | None = None,
                 return_classes: bool = False, img_subdir: str = 'JPEGImages', ann_subdir: str = 'Annotations') -> None:
        super().__init__(
            ann_file=ann_file, metainfo=metainfo, data_root=data_root, data_prefix=data_prefix, filter_cfg=filter_cfg,
            indices=indices, serialize_data=serialize_data, pipeline=pipeline, test_mode=test_mode, lazy_init=lazy_init,
            max_refetch=max_refetch, seg_map_suffix=seg_map_suffix, proposal_file=proposal_file,
            file_client_args=file_client_args, backend_args=backend_args, return_classes=return_classes)
        folder = self.data_root / str((data_prefix or {}).get('sub_data_root', ''))
        self.image_folder = folder / img_subdir
        self.xml_folder = folder / ann_subdir

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the list and every XML file in it.

        Raises:
            DatasetError: a file is missing or damaged, or no object in them is of one of the classes.
        """
        label_of = {name: label for label, name in enumerate(self.classes)}
        records, flat = [], []
        foreign: set[str] = set()
        for name in _names(self.ann_path):
            record, objects = self._image(name)
            for n, (kind, box, difficult) in enumerate(objects):
                if kind not in label_of:
                    foreign.add(kind)
                elif min(box[2] - box[0], box[3] - box[1]) <= 0:
                    flat.append(f'{name}.xml, object {n}, {[v + 1 for v in box]}')
                else:
                    record['instances'].append(dict(bbox=box, bbox_label=label_of[kind],
                                                    ignore_flag=int(difficult or self._is_small(box))))
            records.append(record)
        if foreign and not any(r['instances'] for r in records):
            near = did_you_mean(min(foreign), self.classes)
            raise DatasetError(
                f'{self.ann_path}: no object is of one of the classes{near}\n'
                f'  classes: {", ".join(self.classes) or "none; give metainfo=dict(classes=(...))"}\n'
                f'  names in the files: {", ".join(sorted(foreign))}')
        if flat:
            log.warning('%s: %d objects are left out, for their boxes have no area; the first is %s', self.xml_folder,
                        len(flat), flat[0])
        return records

    def _image(self, name: str) -> tuple[dict[str, Any], list[tuple[str, list[float], bool]]]:
        """An image without its instances, and its objects as (class, xyxy from 0, difficult)."""
        path = self.xml_folder / f'{name}.xml'
        try:
            tree = ElementTree.parse(path).getroot()
        except OSError as e:
            raise DatasetError(f'{path}: {e.strerror or e} ({self.ann_path} lists it)') from None
        except ElementTree.ParseError as e:
            raise DatasetError(f'{path}: this is no XML: {e}') from None
        stated = Path((tree.findtext('filename') or '').strip())    # for its suffix, where it is this image's name
        file = stated.name if stated.stem == name and stated.suffix else f'{name}.jpg'
        try:
            width, height = (int(float(tree.findtext(f'size/{k}') or '')) for k in ('width', 'height'))
        except ValueError:
            height, width = read_image(self.image_folder / file).shape[:2]
        return dict(img_id=name, img_path=file, width=width, height=height, instances=[]), _objects(path, tree)

    def _is_small(self, box: Sequence[float]) -> bool:
        least = self.filter_cfg.get('bbox_min_size')
        return least is not None and not self.test_mode and min(box[2] - box[0], box[3] - box[1]) < least


@DATASETS.register
class VOCDataset(XMLDataset):
    """Pascal VOC (doi:10.1007/s11263-009-0275-4) of any year: twenty classes. Arguments as `XMLDataset`."""

    METAINFO: Mapping[str, Any] = {'classes': VOC_CLASSES, 'palette': VOC_PALETTE}


def _names(path: Path) -> list[str]:
    """The first word of every line."""
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except OSError as e:
        raise DatasetError(f'{path}: {e.strerror or e}; a list of image names, one on a line, is wanted') from None
    except UnicodeDecodeError:
        raise DatasetError(f'{path}: this is no text; a list of image names, one on a line, is wanted') from None
    return [line.split()[0] for line in lines if line.strip()]


def _objects(path: Path, tree: ElementTree.Element) -> list[tuple[str, list[float], bool]]:
    out = []
    for n, item in enumerate(tree.findall('object')):
        values = [item.findtext(f'bndbox/{k}') for k in ('xmin', 'ymin', 'xmax', 'ymax')]
        try:
            box = [float(v or '') - 1 for v in values]
        except ValueError:
            box = []
        if not box or not np.isfinite(box).all():
            raise DatasetError(f'{path}: object {n} has no box of four numbers (bndbox with xmin, ymin, xmax, ymax); '
                               f'found {values}')
        difficult = (item.findtext('difficult') or '0').strip()
        out.append(((item.findtext('name') or '').strip(), box, difficult not in ('', '0')))
    return out

"""Data sets of the users' own that derive from MMDetection's `BaseDetDataset` (3.x) or `CustomDataset` (2.x)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omnidet.compat.files import load as load_file
from omnidet.data.datasets import base
from omnidet.data.store import AnnotationStore
from omnidet.errors import ConfigError, DatasetError

IMAGE_KEYS = {'img_path', 'img_id', 'height', 'width', 'seg_map_path', 'instances', 'sample_idx'}
INSTANCE_KEYS = {'bbox', 'bbox_label', 'ignore_flag', 'mask'}


class BaseDetDataset(base.BaseDetDataset):
    """The class to derive a data set from as MMDetection 3.x has it: `load_data_list` gives whole paths of images.

    Keys of images and instances beyond OmniDet's own are kept beside the shared annotations and reach the pipeline.
    Arguments as `omnidet.data.datasets.BaseDetDataset`.
    """

    # ------------------------------------------------------------------------------------ what a user's code reads

    @property
    def ann_file(self) -> str:
        """The annotation file, with `data_root`."""
        return str(self.ann_path)

    @property
    def data_prefix(self) -> dict[str, str]:
        """The folders of images and semantic maps, with `data_root`."""
        image = str(self.image_folder)
        return {'img': image, 'img_path': image, **({'seg': str(self.seg_folder)} if self.seg_folder else {})}

    @property
    def data_list(self) -> list[dict[str, Any]]:
        """Every image's dict, as `get_data_info` gives it."""
        return self._records if self._records is not None else [self.get_data_info(i) for i in range(len(self))]

    backend_args: Mapping[str, Any] | None = None
    file_client_args: Mapping[str, Any] = {}
    _records: list[dict[str, Any]] | None = None
    _extras: Sequence[tuple[dict[str, Any], list[dict[str, Any]]]] = ()

    # ------------------------------------------------------------------------------------------ what it may override

    def load_data_list(self) -> list[dict[str, Any]]:
        """The images of a file in OpenMMLab's own form: dict(metainfo=..., data_list=[...])."""
        content = load_file(self.ann_file)
        if not isinstance(content, Mapping) or 'data_list' not in content:
            raise DatasetError(f'{self.ann_file}: a dict with data_list is wanted; override load_data_list() to read '
                               'another form')
        records: list[dict[str, Any]] = []
        for raw in content['data_list']:
            made = self.parse_data_info(dict(raw))
            records += made if isinstance(made, list) else [made]
        return records

    def parse_data_info(self, raw_data_info: dict[str, Any]) -> Any:
        """One image of such a file: its path gets the folder of images in front."""
        if 'img_path' in raw_data_info:
            raw_data_info['img_path'] = str(self.image_folder / raw_data_info['img_path'])
        return raw_data_info

    def filter_data(self) -> list[dict[str, Any]]:
        """The images of `self.data_list` that are trained on."""
        return [r for r in self.data_list if self._passes(r.get('width', 0), r.get('height', 0), r.get('instances'))]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """What the pipeline starts from."""
        return self._loaded(idx)

    # --------------------------------------------------------------------------------------- what OmniDet calls

    def read(self) -> tuple[AnnotationStore, list[int]]:
        self._records = records = [self._whole(r) for r in self.load_data_list()]
        if not self.test_mode:
            records = self.filter_data()
        records = [records[i] for i in self.subset(len(records))]
        self._records = None
        extras = [({k: v for k, v in r.items() if k not in IMAGE_KEYS},
                   [{k: v for k, v in i.items() if k not in INSTANCE_KEYS} for i in r.get('instances', ())])
                  for r in records]
        self._extras = extras if any(image or any(own) for image, own in extras) else ()
        return AnnotationStore.from_records(records), self._cat_ids

    def load(self, index: int) -> dict[str, Any]:
        return self.get_data_info(index)

    def _loaded(self, index: int) -> dict[str, Any]:
        out = base.BaseDetDataset.load(self, index)
        if self._extras:
            image, own = self._extras[index]
            out.update(image)
            for instance, more in zip(out['instances'], own, strict=True):
                instance.update(more)
        return out

    def _whole(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """A record whose paths do not depend on the folder of images."""
        if 'img_path' not in record:
            raise DatasetError(f'{type(self).__name__}.load_data_list: an image has no img_path; it has '
                               f'{", ".join(map(str, record)) or "nothing"}')
        return {**record, 'img_path': str(Path(record['img_path']).absolute())}


class CustomDataset(BaseDetDataset):
    """The class to derive a data set from as MMDetection 2.x has it.

    `load_annotations(ann_file)` gives for each image a dict of filename, width, height and ann: dict(bboxes (G, 4),
    labels (G,), bboxes_ignore, labels_ignore, masks). `CLASSES` of the class, or `classes`, name the labels.

    Args:
        classes: of the labels; `metainfo=dict(classes=...)` today.
        img_prefix, seg_prefix: folders; `data_prefix=dict(img=..., seg=...)` today.
        filter_empty_gt: leave out images without a box.
        file_client_args: None or dict(backend='disk').
        The others: see `BaseDetDataset`.
    """

    CLASSES: Sequence[str] | None = None

    def __init__(self, ann_file: str = '', pipeline: Sequence[Any] = (), classes: Sequence[str] | str | None = None,
                 data_root: str | None = '', img_prefix: str = '', seg_prefix: str | None = None,
                 proposal_file: str | None = None, test_mode: bool = False, filter_empty_gt: bool = True,
                 file_client_args: Mapping[str, Any] | None = None, metainfo: Mapping[str, Any] | None = None,
                 data_prefix: Mapping[str, str] | None = None, filter_cfg: Mapping[str, Any] | None = None,
                 indices: int | Sequence[int] | None = None, serialize_data: bool = True, lazy_init: bool = False,
                 max_refetch: int = 1000, seg_map_suffix: str = '.png', backend_args: Mapping[str, Any] | None = None,
                 return_classes: bool = False) -> None:
        if classes is not None:
            metainfo = {**(metainfo or {}), 'classes': classes}
        prefix = data_prefix or {'img': img_prefix, **({} if seg_prefix is None else {'seg': seg_prefix})}
        super().__init__(
            ann_file, metainfo, data_root, prefix, {'filter_empty_gt': filter_empty_gt, 'min_size': 32}
            if filter_cfg is None else filter_cfg, indices, serialize_data, pipeline, test_mode, lazy_init,
            max_refetch, seg_map_suffix, proposal_file, file_client_args, backend_args, return_classes)
        self.data_infos: list[dict[str, Any]] = []

    @property
    def img_prefix(self) -> str:
        return str(self.image_folder)

    def load_annotations(self, ann_file: str) -> list[dict[str, Any]]:
        """The images of a file: a list in the form that the class's description names."""
        return load_file(ann_file)

    def get_ann_info(self, idx: int) -> dict[str, Any]:
        """The annotation of an image."""
        return self.data_infos[idx].get('ann', {})

    def load_data_list(self) -> list[dict[str, Any]]:
        if self.CLASSES is not None and not self.metainfo['classes']:
            raise ConfigError(f'{type(self).__name__}: CLASSES is set on the object; set it on the class')
        self.data_infos = infos = self.load_annotations(self.ann_file)
        records = [self._record(info, self.get_ann_info(i)) for i, info in enumerate(infos)]
        self.data_infos = []    # they lie in shared memory from here on
        return records

    def _record(self, info: Mapping[str, Any], ann: Mapping[str, Any]) -> dict[str, Any]:
        """An image's dict in the form of 3.x."""
        image = {k: v for k, v in info.items() if k not in ('ann', 'filename', 'file_name', 'id')}
        name = info.get('filename') or info.get('file_name')
        if name is None:
            raise DatasetError(f'{type(self).__name__}.load_annotations: an image has no filename; it has '
                               f'{", ".join(map(str, info)) or "nothing"}')
        masks = ann.get('masks')
        learnt = [dict(bbox=list(map(float, b)), bbox_label=int(c), ignore_flag=0,
                       **({} if masks is None else {'mask': masks[i]}))
                  for i, (b, c) in enumerate(zip(_rows(ann.get('bboxes')), _flat(ann.get('labels')), strict=True))]
        ignored = [dict(bbox=list(map(float, b)), bbox_label=0, ignore_flag=1,
                        **({} if masks is None else {'mask': None})) for b in _rows(ann.get('bboxes_ignore'))]
        record = {**image, 'img_path': str(self.image_folder / str(name)), 'instances': learnt + ignored}
        img_id = info.get('id', info.get('img_id'))
        return record if img_id is None else {**record, 'img_id': img_id}


def _rows(boxes: Any) -> np.ndarray:
    return np.zeros((0, 4)) if boxes is None else np.asarray(boxes, np.float64).reshape(-1, 4)


def _flat(labels: Any) -> np.ndarray:
    return np.zeros(0, np.int64) if labels is None else np.asarray(labels, np.int64).reshape(-1)

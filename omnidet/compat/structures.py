"""`mmengine.structures` and `mmdet.structures`: named fields with the image's meta data beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor

from omnidet.structures import ImageMeta, Result


class BaseDataElement:
    """Fields that are set as attributes, and meta data of the image.

    Args:
        metainfo: {name: value}; read as attributes too.
        fields: {name: value}.
    """

    def __init__(self, *, metainfo: Mapping[str, Any] | None = None, **fields: Any) -> None:
        self.__dict__.update(_meta=dict(metainfo or {}), _fields={})
        for name, value in fields.items():
            setattr(self, name, value)

    @property
    def metainfo(self) -> dict[str, Any]:
        return dict(self._meta)

    def set_metainfo(self, metainfo: Mapping[str, Any]) -> None:
        self._meta.update(metainfo)

    def __getattr__(self, name: str) -> Any:
        fields, meta = self.__dict__.get('_fields', {}), self.__dict__.get('_meta', {})
        if name in fields:
            return fields[name]
        if name in meta:
            return meta[name]
        known = ', '.join([*fields, *meta]) or 'nothing'
        raise AttributeError(f'{type(self).__name__} has no {name!r}; it has {known}')

    def __setattr__(self, name: str, value: Any) -> None:
        self._fields[name] = value

    def __delattr__(self, name: str) -> None:
        del self._fields[name]

    def __contains__(self, name: str) -> bool:
        return name in self._fields or name in self._meta

    def keys(self) -> list[str]:
        return list(self._fields)

    def values(self) -> list[Any]:
        return list(self._fields.values())

    def items(self) -> Iterator[tuple[str, Any]]:
        return iter(self._fields.items())

    def all_keys(self) -> list[str]:
        return [*self._meta, *self._fields]

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self, name) if name in self else default

    def pop(self, name: str, *default: Any) -> Any:
        return self._fields.pop(name, *default)

    def to_dict(self) -> dict[str, Any]:
        """Meta data and fields in plain dicts."""
        return {**self._meta, **{k: v.to_dict() if isinstance(v, BaseDataElement) else v for k, v in self.items()}}

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """A copy whose tensors are where `torch.Tensor.to` brings them."""
        return self._map(lambda v: v.to(*args, **kwargs) if isinstance(v, (Tensor, BaseDataElement)) else v)

    def cpu(self) -> Any:
        return self.to('cpu')

    def detach(self) -> Any:
        return self._map(lambda v: v.detach() if isinstance(v, (Tensor, BaseDataElement)) else v)

    def numpy(self) -> Any:
        """A copy with arrays in place of tensors."""
        return self._map(lambda v: v.detach().cpu().numpy() if isinstance(v, Tensor) else v)

    def _map(self, function: Any) -> Any:
        return type(self)(metainfo=self._meta, **{k: function(v) for k, v in self.items()})

    def __repr__(self) -> str:
        return f'{type(self).__name__}({", ".join(self.all_keys())})'


class InstanceData(BaseDataElement):
    """Fields that have one entry for each instance."""

    def __len__(self) -> int:
        return len(next(iter(self._fields.values()))) if self._fields else 0

    def __getitem__(self, index: Any) -> InstanceData:
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        return self._map(lambda v: v[index] if not isinstance(v, list) else
                         v[index] if isinstance(index, slice) else
                         [v[i] for i in np.arange(len(v))[_array(index)]])

    @staticmethod
    def cat(parts: list[InstanceData]) -> InstanceData:
        """Several, one after another."""
        first = parts[0]
        joined = {k: torch.cat([p.get(k) for p in parts]) if isinstance(v, Tensor) else
                  np.concatenate([p.get(k) for p in parts]) if isinstance(v, np.ndarray) else
                  [x for p in parts for x in p.get(k)] for k, v in first.items()}
        return InstanceData(metainfo=first.metainfo, **joined)


class PixelData(BaseDataElement):
    """Fields that have one entry for each pixel."""


class DetDataSample(BaseDataElement):
    """What is known and what was found of an image: `gt_instances`, `pred_instances`, `pred_sem_seg`, ..."""


def _array(index: Any) -> Any:
    return index.cpu().numpy() if isinstance(index, Tensor) else index


InstanceList = list[InstanceData]
OptInstanceList = Optional[InstanceList]    # noqa: UP045
PixelList = list[PixelData]
OptPixelList = Optional[PixelList]    # noqa: UP045
SampleList = list[DetDataSample]
OptSampleList = Optional[SampleList]    # noqa: UP045


def data_sample(result: Result, meta: ImageMeta | None = None) -> DetDataSample:
    """A result as MMDetection 3.x gives it."""
    found = InstanceData(bboxes=result.boxes, scores=result.scores, labels=result.labels)
    if result.instance_masks is not None:
        found.masks = result.masks
    sample = DetDataSample(pred_instances=found)
    if meta is not None:
        sample.set_metainfo({k: v for k, v in vars(meta).items() if v is not None and k not in ('proposals', 'offset')})
    for name in ('sem_seg', 'panoptic'):
        value = getattr(result, name)
        if value is not None:
            field = 'pred_panoptic_seg' if name == 'panoptic' else 'pred_sem_seg'
            setattr(sample, field, PixelData(sem_seg=value[None]))
    return sample


def as_result(sample: Any) -> Result:
    """The `Result` that a DetDataSample holds; a `Result` itself as it is."""
    if isinstance(sample, Result):
        return sample
    found = sample.pred_instances
    boxes, scores, labels = (torch.as_tensor(found.get(k)) for k in ('bboxes', 'scores', 'labels'))
    return Result(boxes, scores, labels, found.get('masks'))

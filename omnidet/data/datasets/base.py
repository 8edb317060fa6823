"""What all data sets share: paths and classes, the shared annotations, and samples that a key makes reproducible."""

from __future__ import annotations

import colorsys
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import get_worker_info

from omnidet.data.proposals import ProposalStore, read_proposals
from omnidet.data.store import AnnotationStore
from omnidet.data.transforms.base import Compose, run, seeded, walk
from omnidet.data.transforms.loading import check_backend_args
from omnidet.errors import ConfigError, DatasetError, ImageError
from omnidet.structures import Sample

log = logging.getLogger('omnidet')

Key = int | tuple[int, ...]


class BaseDetDataset:
    """A data set of images with boxes; a class of one's own overrides `load_data_list`.

    `dataset[key]` takes an index, or (epoch, index). The random numbers of a sample are a function of the data set's
    seed and the key alone, so a sample does not depend on which process makes it, nor on what was made before it. Only
    transforms that remember images (CachedMosaic, CachedMixUp) depend on the order; their memories are emptied when an
    epoch begins and filled with images that seed, epoch, rank and worker determine, so that a run that is resumed
    between two epochs sees what the uninterrupted one saw.

    Args:
        ann_file: the annotation file; relative to `data_root`.
        metainfo: dict(classes=..., palette=...); classes that are not given are the class's own, `METAINFO`.
        data_root: what relative paths start from.
        data_prefix: dict(img=..., seg=...): the folders of the images and semantic maps.
        filter_cfg: dict(filter_empty_gt=bool, min_size=int): leave out images without a box, and smaller ones. Not
            in `test_mode`.
        indices: keep the first so many images, or those with these indices.
        serialize_data: accepted; annotations always lie in shared memory.
        pipeline: the transforms.
        test_mode: every image counts: none is filtered or replaced, and one that cannot be read is an error.
        lazy_init: read the annotations when they are first needed, not when the data set is built from a config.
        max_refetch: how many others to try when a training image cannot be read or is dropped by a transform.
        seg_map_suffix: the suffix of semantic maps, which bear the names of their images.
        proposal_file: boxes for each image, relative to `data_root` (omnidet.data.proposals says in which forms); for
            LoadProposals.
        file_client_args: as `backend_args`; its name of old.
        backend_args: None or dict(backend='local').
        return_classes: hand the classes' names to the pipeline as `text`.
    """

    METAINFO: Mapping[str, Any] = {}

    def __init__(self, ann_file: str = '', metainfo: Mapping[str, Any] | None = None, data_root: str | None = '',
                 data_prefix: Mapping[str, str] | None = None, filter_cfg: Mapping[str, Any] | None = None,
                 indices: int | Sequence[int] | None = None, serialize_data: bool = True,
                 pipeline: Sequence[Any] = (), test_mode: bool = False, lazy_init: bool = False,
                 max_refetch: int = 1000, seg_map_suffix: str = '.png', proposal_file: str | None = None,
                 file_client_args: Mapping[str, Any] | None = None, backend_args: Mapping[str, Any] | None = None,
                 return_classes: bool = False) -> None:
        name = type(self).__name__
        check_backend_args(backend_args or file_client_args, name)
        unknown = set(filter_cfg or {}) - {'filter_empty_gt', 'min_size', 'bbox_min_size'}
        if unknown:
            raise ConfigError(f'{name}.filter_cfg: {", ".join(sorted(unknown))} is unknown; filter_empty_gt and '
                              'min_size are known')
        self.data_root = Path(data_root or '')
        self.ann_path = self.data_root / ann_file
        prefix = data_prefix or {}
        self.image_folder = self.data_root / str(prefix.get('img', prefix.get('img_path', '')))
        self.proposal_file = None if proposal_file is None else self.data_root / proposal_file
        self.seg_folder = self.data_root / str(prefix['seg']) if prefix.get('seg') is not None else None
        self.metainfo = _metainfo(type(self).METAINFO, metainfo or {}, name)
        self.classes_given = any(k.lower() == 'classes' for k in metainfo or {})
        self.filter_cfg = dict(filter_cfg or {})
        self.indices = indices
        self.pipeline = Compose(pipeline)
        self.test_mode = test_mode
        self.lazy_init = lazy_init
        self.max_refetch = max_refetch
        self.seg_map_suffix = seg_map_suffix
        self.return_classes = return_classes
        self.seed = 0
        self.rank = 0
        self._cat_ids: list[int] = list(range(len(self.classes)))
        self._store: AnnotationStore | None = None
        self._proposals: ProposalStore | None = None
        self._epoch_of_memories: int | None = None
        self._reported: set[str] = set()

    # ------------------------------------------------------------------------------------------ what is in it

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the annotations: for each image a dict of img_path, img_id, height, width and instances.

        Each instance is a dict of bbox (xyxy), bbox_label, and if need be ignore_flag and mask.
        """
        raise NotImplementedError(f'{type(self).__name__} does not define load_data_list()')

    def read(self) -> tuple[AnnotationStore, list[int]]:
        """Read, filter and pack the annotations; the store, and the file's category id of each class."""
        records = self.load_data_list()
        if not self.test_mode:
            records = [r for r in records if self._passes(r.get('width', 0), r.get('height', 0), r.get('instances'))]
        return AnnotationStore.from_records([records[i] for i in self.subset(len(records))]), self._cat_ids

    def _passes(self, width: int, height: int, instances: Any) -> bool:
        """Whether `filter_cfg` lets an image pass."""
        if self.filter_cfg.get('filter_empty_gt', False) and not instances:
            return False
        return min(width, height) >= self.filter_cfg.get('min_size', 0)

    def subset(self, n: int) -> list[int]:
        """Which of `n` images `indices` picks."""
        if self.indices is None:
            return list(range(n))
        return list(range(n))[:self.indices] if isinstance(self.indices, int) else [range(n)[i] for i in self.indices]

    @property
    def wants_masks(self) -> bool:
        """Whether the pipeline loads masks; otherwise they are not kept."""
        return any(getattr(t, 'with_mask', False) for t in walk(self.pipeline))

    def full_init(self) -> None:
        """Read the annotations, unless they have been.

        Raises:
            DatasetError: the annotations cannot be read, or no image is left.
        """
        if self._store is None:
            store, cat_ids = self.read()
            if not len(store):
                raise DatasetError(f'{self.ann_path}: no image is left'
                                   + (f' after filter_cfg={self.filter_cfg}' if self.filter_cfg else ''))
            self._store, self._cat_ids = store, cat_ids
            if self.proposal_file is not None:
                names = [str(self.image_folder / store.image(i)['file_name']) for i in range(len(store))]
                self._proposals = read_proposals(self.proposal_file, names, store.ids)

    @property
    def store(self) -> AnnotationStore:
        self.full_init()
        assert self._store is not None
        return self._store

    @property
    def classes(self) -> tuple[str, ...]:
        return self.metainfo['classes']

    @property
    def cat_ids(self) -> list[int]:
        """The annotation file's id of each class; -1 where the file has no such category."""
        self.full_init()
        return self._cat_ids

    @property
    def image_ids(self) -> list[int] | list[str]:
        return self.store.ids

    @property
    def sizes(self) -> np.ndarray:
        """(I, 2) int32, (width, height) of every image."""
        return self.store.sizes

    def get_cat_ids(self, index: int) -> list[int]:
        """The labels of an image's instances."""
        return self.store.labels(index).tolist()

    def __len__(self) -> int:
        return len(self.store)

    # ------------------------------------------------------------------------------------------------ samples

    def load(self, index: int) -> dict[str, Any]:
        """What the pipeline starts from: img_path, img_id, width, height, instances, seg_map_path, sample_idx."""
        image = self.store.image(index)
        name = image.pop('file_name')
        image['img_path'] = str(self.image_folder / name)
        if image['seg_map_path'] is None and self.seg_folder is not None:
            image['seg_map_path'] = str(self.seg_folder / Path(name).with_suffix(self.seg_map_suffix))
        if self.return_classes:
            image.update(text=self.classes, custom_entities=True)
        if self._proposals is not None:
            image['proposals'], image['proposals_scores'] = self._proposals[index]
        return dict(image, sample_idx=index, instances=self.store.instances(index))

    def get_data_info(self, index: int) -> dict[str, Any]:
        """MMDetection's name of `load`."""
        return self.load(index)

    def set_seed(self, seed: int, rank: int = 0) -> None:
        """Set what the random numbers of all samples start from."""
        self.seed, self.rank = seed, rank

    def set_pipeline(self, pipeline: Sequence[Any]) -> None:
        """Replace the transforms."""
        self.pipeline = Compose(pipeline)
        self._epoch_of_memories = None
        if self._store is not None and self.wants_masks and not self._store.has_masks:
            self._store = None    # read again, with masks

    def __getitem__(self, key: Key) -> Sample:
        """The sample of `key`: an index, (epoch, index), or (epoch, index, repetition).

        Raises:
            ImageError: in test mode, the image cannot be read.
            DatasetError: no image was left after `max_refetch` attempts.
        """
        epoch, index, *repetition = key if isinstance(key, tuple) else (0, key)
        index = range(len(self))[index]
        self._renew_memories(epoch)
        with seeded(self.seed, epoch, index, *repetition):
            if self.test_mode:
                sample = self.pipeline(self.load(index))
                if sample is None:
                    raise DatasetError(f'{self.load(index)["img_path"]}: a transform of the test pipeline drops it')
                return sample
            for _ in range(self.max_refetch + 1):
                sample = self._try(index)
                if sample is not None:
                    return sample
                index = int(np.random.randint(len(self)))
        raise DatasetError(f'{self.ann_path}: {self.max_refetch + 1} images in a row could not be used for training; '
                           'they cannot be read, or the pipeline drops them')

    def _try(self, index: int) -> Any:
        """The sample, or None where the image cannot be read (said once for each) or a transform drops it."""
        try:
            return self.pipeline(self.load(index))
        except ImageError as e:
            if str(e) not in self._reported:
                self._reported.add(str(e))
                log.warning('%s; another image takes its place', e)
            return None

    def _renew_memories(self, epoch: int) -> None:
        """Where an epoch begins, empty the memories of transforms and fill them with images drawn for it."""
        if epoch == self._epoch_of_memories:
            return
        self._epoch_of_memories = epoch
        for transform in walk(self.pipeline):
            if hasattr(transform, 'forget'):
                transform.forget()
        worker = get_worker_info()
        with seeded(self.seed, epoch, self.rank, worker.id if worker else 0, 1):
            transforms: list[Any] = list(self.pipeline)
            for n, transform in enumerate(transforms):
                if hasattr(transform, 'remember'):
                    for _ in range(min(transform.max_cached_images, len(self))):
                        try:
                            results = run(transforms[:n], self.load(int(np.random.randint(len(self)))))
                        except ImageError:
                            continue
                        if results is not None:
                            transform.remember(results)


def _metainfo(default: Mapping[str, Any], given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Classes and palette, with a palette made up where the classes are the user's own."""
    given = {k.lower(): v for k, v in given.items()}
    out = {**{k: v for k, v in default.items() if 'classes' not in given or k != 'palette'}, **given}
    classes = out.get('classes') or ()
    if isinstance(classes, str):    # ('person') lacks the comma of a tuple; a file holds a name on each line
        file = Path(classes)
        classes = file.read_text().split('\n') if file.is_file() else [classes]
        classes = [c.strip() for c in classes if c.strip()]
    classes = tuple(classes)
    if len(set(classes)) != len(classes) or not all(isinstance(c, str) for c in classes):
        raise ConfigError(f'{name}.metainfo.classes: names that differ are wanted; found {classes!r}')
    palette = out.get('palette')
    if not isinstance(palette, Sequence) or isinstance(palette, str) or len(palette) < len(classes):
        palette = make_palette(len(classes))
    return {**out, 'classes': classes, 'palette': [tuple(c) for c in palette]}


def make_palette(n: int) -> list[tuple[int, int, int]]:
    """`n` RGB colours that lie far apart: hues a golden angle from each other, and three brightnesses."""
    colours = [colorsys.hsv_to_rgb((0.97 + i * 0.618034) % 1.0, 0.85 - 0.2 * (i % 2), (1.0, 0.8, 0.6)[i % 3])
               for i in range(n)]
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in colours]

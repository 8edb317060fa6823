"""Proposals: from their file, through the transforms, to the model."""

from __future__ import annotations

import json
import pickle
import sys
import types

import numpy as np
import pytest

from omnidet.data import build_dataset, collate
from omnidet.data.transforms import build_transform
from omnidet.errors import ConfigError, DatasetError

BOXES = [np.array([[2, 4, 10, 12], [1, 1, 30, 40]], np.float32), np.array([[0, 0, 8, 8]], np.float32)]
SCORES = [np.array([0.3, 0.9], np.float32), np.array([0.5], np.float32)]


def instance_data():
    """A class of the name that MMDetection's files carry."""
    module = types.ModuleType('mmengine.structures.instance_data')
    exec('class InstanceData:\n    pass', module.__dict__)
    module.InstanceData.__module__ = module.__name__
    return module


def written(tmp_path, form):
    five = [np.concatenate([b, s[:, None]], 1) for b, s in zip(BOXES, SCORES, strict=True)]
    rows = [dict(image_id=i, category_id=1, bbox=[*b[:2].tolist(), *(b[2:] - b[:2]).tolist()], score=float(s))
            for i in range(2) for b, s in zip(BOXES[i], SCORES[i], strict=True)]
    content = {
        'json rows': rows, 'json dict': {f'img/{i}.png': dict(bboxes=BOXES[i].tolist(), scores=SCORES[i].tolist())
                                         for i in range(2)},
        'list': five, 'dict': {f'{i}.png': five[i] for i in range(2)},
        'dict of dicts': {f'img/{i}.png': dict(bboxes=BOXES[i], scores=SCORES[i]) for i in range(2)}}.get(form)
    path = tmp_path / f'proposals.{"json" if form.startswith("json") else "pkl"}'
    if form == 'InstanceData':
        module = instance_data()
        names = ('mmengine', 'mmengine.structures', module.__name__)
        sys.modules.update({n: module if n == names[-1] else types.ModuleType(n) for n in names})
        try:
            content = {f'img/{i}.png': module.InstanceData() for i in range(2)}
            for i, data in enumerate(content.values()):
                vars(data).update(_data_fields={'bboxes', 'scores'}, bboxes=BOXES[i], scores=SCORES[i])
            path.write_bytes(pickle.dumps(content))
        finally:
            for n in names:
                del sys.modules[n]
    elif form.startswith('json'):
        path.write_text(json.dumps(content))
    else:
        path.write_bytes(pickle.dumps(content))
    return path


def dataset(make_coco, path, transforms=(), **args):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadProposals', **args), dict(type='LoadAnnotations'),
                dict(type='ProposalBroadcaster', transforms=list(transforms)), dict(type='PackDetInputs')]
    return build_dataset(dict(make_coco([[(5, 5, 20, 20, 10)], [(30, 10, 30, 30, 20)]]), proposal_file=path.name,
                              pipeline=pipeline))


@pytest.mark.parametrize('form', ['json rows', 'json dict', 'list', 'dict', 'dict of dicts', 'InstanceData'])
def test_every_form_of_file_gives_the_best_first(make_coco, tmp_path, form):
    data = dataset(make_coco, written(tmp_path, form))
    first, second = data[0], data[1]
    assert first.meta.proposals.tolist() == [[1, 1, 30, 40], [2, 4, 10, 12]]
    assert second.target['proposals'].tolist() == [[0, 0, 8, 8]]
    batch = collate([first, second])
    assert batch.targets.proposals.shape == (2, 2, 4)
    assert batch.targets.proposals_valid.tolist() == [[True, True], [True, False]]


def test_only_the_best_are_kept_and_none_is_one_without_extent(make_coco, tmp_path):
    path = written(tmp_path, 'list')
    assert dataset(make_coco, path, num_max_proposals=1)[0].meta.proposals.tolist() == [[1, 1, 30, 40]]
    path.write_bytes(pickle.dumps([np.zeros((0, 5)), np.zeros((0, 4))]))
    assert dataset(make_coco, path)[0].meta.proposals.tolist() == [[0, 0, 0, 0]]


def test_proposals_go_where_the_image_goes(make_coco, tmp_path):
    transforms = [dict(type='RandomResize', scale=(128, 96), ratio_range=(0.5, 2), keep_ratio=True),
                  dict(type='RandomFlip', prob=0.5)]
    data = dataset(make_coco, written(tmp_path, 'list'), transforms)
    seen = set()
    for epoch in range(8):
        sample = data[epoch, 0]
        h, w = sample.meta.img_shape
        seen.add(sample.meta.flip_direction)
        box, proposals = sample.target['boxes'][0].tolist(), sample.target['proposals'].tolist()
        for found, there in zip([box, *proposals], [[5, 5, 25, 25], [1, 1, 30, 40], [2, 4, 10, 12]], strict=True):
            x1, y1, x2, y2 = (v * f for v, f in zip(there, [w / 64, h / 48] * 2, strict=True))
            x1, x2 = (w - x2, w - x1) if sample.meta.flip_direction else (x1, x2)
            assert found == pytest.approx([x1, y1, x2, y2], abs=1e-3)
    assert seen == {None, 'horizontal'} and len({data[e, 0].meta.img_shape for e in range(8)}) > 3


def test_the_random_numbers_after_it_are_those_of_the_image_alone(painted):
    flip = [dict(type='RandomFlip', prob=0.5)]
    np.random.seed(3)
    build_transform(dict(type='ProposalBroadcaster', transforms=flip))(dict(painted(), proposals=BOXES[0]))
    after = np.random.rand()
    np.random.seed(3)
    build_transform(dict(type='Compose', transforms=flip))(painted())
    assert np.random.rand() == after


def test_a_transform_that_looks_at_the_boxes_is_refused(painted):
    crop = dict(type='ProposalBroadcaster', transforms=[dict(type='MinIoURandomCrop')])
    results = dict(painted(), proposals=np.array([[0, 0, 1, 1]], np.float32))
    np.random.seed(0)
    with pytest.raises(ConfigError, match='depends on the boxes'):
        for _ in range(20):
            build_transform(crop)(dict(results))


class Evil:
    def __reduce__(self):
        return eval, ('1',)


@pytest.mark.parametrize('content, message', [
    ([BOXES[0]], '1 entries does not fit 2 images'), ({'img/0.png': BOXES[0]}, 'no proposals for img/1.png'),
    ([np.zeros((3, 6)), BOXES[1]], '0.png are no boxes'), (7, 'found a int'), (Evil(), 'builtins.eval'),
    (['x', 'y'], 'are no boxes')])
def test_a_file_of_something_else_is_an_error_that_says_what(make_coco, tmp_path, content, message):
    path = tmp_path / 'proposals.pkl'
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DatasetError, match=message):
        dataset(make_coco, path)[0]


def test_missing_damaged_and_forgotten_files_are_errors(make_coco, tmp_path):
    path = tmp_path / 'proposals.pkl'
    with pytest.raises(DatasetError, match='no such file'):
        dataset(make_coco, path)[0]
    path.write_bytes(pickle.dumps(BOXES)[:40])
    with pytest.raises(DatasetError, match='no whole pkl'):
        dataset(make_coco, path)[0]
    with pytest.raises(DatasetError, match='set proposal_file'):
        build_transform(dict(type='LoadProposals'))(dict(img_path='a.jpg'))

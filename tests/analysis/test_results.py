"""Results in files of every origin are read to the same `Result`s; a file that would run code is refused."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omnidet.analysis.results import evaluate_results, load_pickle, read_found, read_results
from omnidet.data import build_dataset
from omnidet.errors import ConfigError, DatasetError
from omnidet.evaluation.dump import DumpDetResults
from omnidet.evaluation.rle import encode_masks
from omnidet.masks import InstanceMasks
from omnidet.structures import ImageMeta, Result


@pytest.fixture
def dataset(cfg: dict[str, Any]) -> Any:
    return build_dataset(cfg['test_dataloader']['dataset'], test_mode=True)


@pytest.fixture
def results() -> list[Result]:
    """For three images: two boxes, none, one."""
    two = torch.tensor([[10.0, 20, 60, 70], [5, 5, 30.5, 40]])
    return [Result(two, torch.tensor([0.9, 0.25]), torch.tensor([2, 0])),
            Result(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long)),
            Result(torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([0.5]), torch.tensor([5]))]


def same(a: list[Result], b: list[Result]) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b):
        assert torch.allclose(x.boxes, y.boxes, atol=1e-4)
        assert torch.allclose(x.scores, y.scores)
        assert x.labels.tolist() == y.labels.tolist()


def as_pickle(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


def metas_of(dataset: Any) -> list[ImageMeta]:
    return [ImageMeta((96, 96), (96, 96), img_id=k, img_path=f'{k}.png') for k in dataset.image_ids]


def test_a_dump_is_read_back_in_the_data_set_s_order_whatever_the_order_it_came_in(dataset, results, tmp_path):
    dump = DumpDetResults(tmp_path / 'r.pkl', dataset=dataset)
    metas = metas_of(dataset)
    dump.update(results[1:], metas[1:])
    dump.update(results[:1], metas[:1])
    assert dump.compute() == {}
    assert '3 images' in dump.report()
    same(read_results(tmp_path / 'r.pkl', dataset), results)


def test_a_dump_has_the_keys_that_mmdetection_s_tools_read(dataset, results, tmp_path):
    dump = DumpDetResults(tmp_path / 'r.pkl', dataset=dataset)
    dump.update(results, metas_of(dataset))
    dump.compute()
    content = pickle.loads((tmp_path / 'r.pkl').read_bytes())
    assert [item['img_id'] for item in content] == list(dataset.image_ids)
    first = content[0]
    assert first['ori_shape'] == (96, 96)
    assert {k: (type(v), v.shape, v.dtype.name) for k, v in first['pred_instances'].items()} == {
        'bboxes': (np.ndarray, (2, 4), 'float32'), 'scores': (np.ndarray, (2,), 'float32'),
        'labels': (np.ndarray, (2,), 'int64')}


def test_masks_and_maps_survive(dataset, results, tmp_path):
    dense = torch.zeros(2, 96, 96, dtype=torch.bool)
    dense[0, 20:70, 10:60] = dense[1, 5:40, 5:20] = True
    semantic = torch.arange(96 * 96).view(96, 96) % 7
    results[0] = results[0].replace(masks=InstanceMasks.from_dense(dense), sem_seg=semantic, panoptic=semantic + 1000)
    dump = DumpDetResults(tmp_path / 'r.pkl', dataset=dataset)
    dump.update(results, metas_of(dataset))
    dump.compute()
    back = read_results(tmp_path / 'r.pkl', dataset)[0]
    assert back.masks is not None and torch.equal(back.masks, dense)
    assert torch.equal(back.sem_seg, semantic) and torch.equal(back.panoptic, semantic + 1000)


def test_mmdetection_3_s_tensors_and_2_s_arrays_by_class_are_read(dataset, results, tmp_path):
    three = [dict(img_id=k, ori_shape=(96, 96), pred_instances=dict(bboxes=r.boxes, scores=r.scores, labels=r.labels))
             for k, r in zip(dataset.image_ids, results)]
    same(read_results(as_pickle(tmp_path / '3.pkl', three), dataset), results)
    two = [[np.concatenate([r.boxes, r.scores[:, None]], 1)[(r.labels == k).numpy()] for k in range(6)]
           for r in results]
    same(read_results(as_pickle(tmp_path / '2.pkl', two), dataset), results)
    masks = InstanceMasks.from_dense(torch.ones(2, 96, 96, dtype=torch.bool))
    encoded = encode_masks(masks)
    segm = [(two[0], [[encoded[1]], [], [encoded[0]], [], [], []]), (two[1], [[]] * 6),
            (two[2], [[], [], [], [], [], [encoded[0]]])]
    back = read_results(as_pickle(tmp_path / '2m.pkl', segm), dataset)
    same(back, results)
    assert back[0].masks is not None and back[0].masks.all()
    proposals = [np.array([[1, 2, 3, 4, 0.5]], np.float32)] * 3
    assert [r.labels.tolist() for r in read_results(as_pickle(tmp_path / 'p.pkl', proposals), dataset)] == [[0]] * 3


def test_coco_s_results_json_is_read(dataset, results, tmp_path):
    rows = [dict(image_id=k, category_id=dataset.cat_ids[label], bbox=[x1, y1, x2 - x1, y2 - y1], score=score)
            for k, r in zip(dataset.image_ids, results)
            for (x1, y1, x2, y2), score, label in zip(r.boxes.tolist(), r.scores.tolist(), r.labels.tolist())]
    (tmp_path / 'r.bbox.json').write_text(json.dumps(rows))
    same(read_results(tmp_path / 'r.bbox.json', dataset), results)


def test_figures_of_a_file_are_those_of_the_metric(cfg, dataset, tmp_path):
    truth = [dataset.load(i)['instances'] for i in range(3)]
    items = [dict(img_id=k, pred_instances=dict(
        bboxes=np.array([x['bbox'] for x in objects], np.float32).reshape(-1, 4),
        scores=np.full(len(objects), 0.7, np.float32), labels=np.array([x['bbox_label'] for x in objects])))
        for k, objects in zip(dataset.image_ids, truth)]
    figures, report = evaluate_results(cfg, as_pickle(tmp_path / 'r.pkl', items))
    assert figures['coco/bbox_mAP'] == pytest.approx(1.0)
    assert '3 of 3 images' in report
    items[0]['pred_instances']['labels'] = (items[0]['pred_instances']['labels'] + 1) % 6
    assert evaluate_results(cfg, as_pickle(tmp_path / 's.pkl', items))[0]['coco/bbox_mAP'] < 0.9
    _, found = read_found(cfg, tmp_path / 'r.pkl')
    assert found[0].meta.ori_shape == (96, 96) and found[0].meta.img_id == dataset.image_ids[0]


class _Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f'touch {self.path}',)


def test_a_file_that_would_run_code_is_refused_by_name_and_runs_nothing(dataset, tmp_path):
    path = as_pickle(tmp_path / 'evil.pkl', [_Evil(str(tmp_path / 'ran'))])
    with pytest.raises(DatasetError, match=r'evil.pkl is not read: it names (posix|nt)\.system'):
        read_results(path, dataset)
    torch_inside = as_pickle(tmp_path / 'inner.pkl', [_EvilStorage(str(tmp_path / 'ran'))])
    with pytest.raises(DatasetError):
        read_results(torch_inside, dataset)
    assert not (tmp_path / 'ran').exists()


class _EvilStorage:
    """The way plain pickles hold tensors, with a checkpoint inside that would run code."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        import io
        raw = io.BytesIO()
        torch.save(_Evil(self.path), raw)
        return torch.storage._load_from_bytes, (raw.getvalue(),)    # type: ignore[attr-defined]


@pytest.mark.parametrize(('content', 'expected'), [
    (b'', 'no pickle, or a damaged one'),
    (b'\x80\x04not a pickle', 'no pickle, or a damaged one'),
    (pickle.dumps({'a': 1}), 'holds a dict; results are a list'),
    (pickle.dumps([1, 2, 3]), 'no results of a detector'),
    (pickle.dumps([[], []]), 'results of 2 images'),
    (pickle.dumps([dict(img_id=99, pred_instances={})]), "not of 3 of the 3"),
    (pickle.dumps([dict(img_id=k, pred_instances=dict(bboxes=np.zeros((2, 4)), scores=[1], labels=[1]))
                   for k in (1, 2, 3)]), '2 boxes, 1 scores and 1 labels'),
])
def test_a_damaged_or_foreign_file_is_told_in_words(content, expected, dataset, tmp_path):
    (tmp_path / 'r.pkl').write_bytes(content)
    with pytest.raises(DatasetError, match=expected):
        read_results(tmp_path / 'r.pkl', dataset)


def test_a_pickle_cut_off_anywhere_ends_in_a_message(dataset, results, tmp_path):
    dump = DumpDetResults(tmp_path / 'r.pkl', dataset=dataset)
    dump.update(results, metas_of(dataset))
    dump.compute()
    whole = (tmp_path / 'r.pkl').read_bytes()
    for end in range(0, len(whole) - 1, 37):
        (tmp_path / 'cut.pkl').write_bytes(whole[:end])
        with pytest.raises(DatasetError):
            load_pickle(tmp_path / 'cut.pkl')


def test_a_missing_file_and_another_suffix_are_errors_of_the_user_s(dataset, tmp_path):
    with pytest.raises(DatasetError, match='omnidet test CONFIG CHECKPOINT --out'):
        read_results(tmp_path / 'none.pkl', dataset)
    with pytest.raises(ConfigError, match=r'\.txt'):
        DumpDetResults(tmp_path / 'r.txt')


def test_a_dump_needs_nothing_but_numpy_to_be_read(dataset, results, tmp_path):
    dump = DumpDetResults(tmp_path / 'r.pkl', dataset=dataset)
    dump.update(results, metas_of(dataset))
    dump.compute()
    code = (f'import pickle, sys; pickle.load(open({str(tmp_path / "r.pkl")!r}, "rb")); '
            'print([m for m in ("torch", "omnidet") if m in sys.modules])')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'

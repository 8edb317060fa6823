"""The script that holds upgraded configs against their namesakes: who is paired, and what counts as a difference."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / 'docs'


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module('upgrades')


def zoo(root: Path, files: dict[str, str | None]) -> Path:
    """A folder with these configs; each links to weights in its family's metafile, if it has any."""
    for name, url in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('', encoding='utf-8')
        with (path.parent / 'metafile.yml').open('a', encoding='utf-8') as f:
            f.write(f'  - Name: {path.stem}\n    Config: configs/{name}\n' + (f'    Weights: {url}\n' if url else ''))
    return root


def test_namesakes_have_the_same_weights_or_the_same_words(script: ModuleType, tmp_path: Path) -> None:
    url = 'https://host/v2.0/a/a_r50/a_r50_20200101-0123.pth'
    old = zoo(tmp_path / 'old', {'a/a_r50_mstrain_1x.py': url, 'a/a_r50_8x2_2x.py': None, 'a/a_r101_fp16_2x.py': None,
                                 'a/b_other_net_3x.py': None, '_base_/models/a.py': None})
    new = zoo(tmp_path / 'new', {'a/entirely_new.py': url, 'a/a-r50_8xb2-2x.py': None, 'a/a-r50_16xb2-2x.py': None,
                                 'a/a-r101_amp-2x.py': None})
    assert script.pairs(old, new) == {
        'a/a_r50_mstrain_1x.py': 'a/entirely_new.py', 'a/a_r50_8x2_2x.py': 'a/a-r50_8xb2-2x.py',
        'a/a_r101_fp16_2x.py': 'a/a-r101_amp-2x.py', 'a/b_other_net_3x.py': None}


def test_a_difference_names_its_place(script: ModuleType) -> None:
    a = dict(type='A', n=1, stages=[dict(type='S', w=2), dict(type='S', w=3)], sizes=[[1, 2], [3, 4]])
    b = dict(type='A', n=1, stages=[dict(type='S', w=2), dict(type='S', w=4)], sizes=[[1, 2], [3, 5]], extra=True)
    assert list(script.differing(a, b)) == ['stages.S.w: 3, in 3.x 4',
                                            'sizes: [[1, 2], [3, 4]], in 3.x [[1, 2], [3, 5]]',
                                            'extra: nothing, in 3.x True']
    assert not list(script.differing(a, a))


def test_a_default_is_no_difference(script: ModuleType) -> None:
    plain = dict(type='FPN', in_channels=(1, 2), out_channels=3, num_outs=2)
    assert script.without_defaults(dict(plain, start_level=0, init_cfg=None)) == script.without_defaults(
        dict(plain, in_channels=[1, 2]))
    assert script.without_defaults(dict(plain, start_level=1)) != script.without_defaults(plain)


def test_pipelines_are_compared_apart_from_the_data(script: ModuleType) -> None:
    pipelines: list[object] = []
    data = dict(batch_size=2, dataset=dict(type='RepeatDataset', dataset=dict(type='D', pipeline=[1, 2])))
    assert script.split(data, pipelines) == dict(batch_size=2, dataset=dict(type='RepeatDataset',
                                                                            dataset=dict(type='D')))
    assert pipelines == [[1, 2]]


def test_every_reason_is_a_pattern_of_a_known_kind(script: ModuleType) -> None:
    kinds = {kind for kind, _ in script.parts({'model': {}})} | {'schedule'}
    assert {r.kind for r in script.REASONS} <= kinds
    assert script.reason('model', 'ld/x.py', 'teacher_config: a, in 3.x b') is not None
    assert script.reason('model', 'atss/x.py', 'teacher_config: a, in 3.x b') is None

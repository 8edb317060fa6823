"""The page of grid heads says what the heads are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / 'docs'


def script():
    spec = importlib.util.spec_from_file_location('heads_page', DOCS / 'heads.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_is_up_to_date():
    assert script().page() == (DOCS / 'heads.md').read_text(), 'run: python docs/heads.py'


def test_every_grid_head_of_the_package_is_on_the_page():
    module = script()
    named = {type(module.built(config)).__name__ for config in module.EXAMPLES} | set(module.SAME_ROW)
    assert {name for name in module.heads() if module.is_ours(name)} == named


def test_every_keypoint_head_of_the_package_is_on_the_page():
    module = script()
    named = {type(module.built(config)).__name__ for config in module.KEYPOINT_EXAMPLES}
    assert {name for name in module.keypoint_heads() if module.is_ours(name)} == named


def test_a_row_tells_the_choices():
    cells = dict(zip(script().COLUMNS, script().row('gfl/gfl_r50_fpn_1x_coco'), strict=True))
    assert cells['head'] == '`GFLHead`' and cells['assigner'] == '`ATSSAssigner`' and cells['sampler'] == 'all'
    assert cells['losses'] == ('loss_cls `QualityFocalLoss`, loss_bbox `GIoULoss`, '
                               'loss_dfl `DistributionFocalLoss`')

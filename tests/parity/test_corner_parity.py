"""CornerNet and CentripetalNet against what MMDetection 3.3 builds; of what they compute there is no record."""

from __future__ import annotations

import pytest
import torch
from harness import records, structure

import omnidet

LAYOUTS = records('corners')['layouts']


@pytest.mark.parametrize('config', LAYOUTS)
def test_model_is_built_as_recorded(config):
    with torch.device('meta'):
        model = omnidet.build_model(omnidet.load_config(config.removesuffix('.py'))).train()
    assert not structure(model, LAYOUTS[config])

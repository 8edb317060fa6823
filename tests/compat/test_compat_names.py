"""What the names of OpenMMLab's packages lead to."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys

import pytest

from omnidet import compat
from omnidet.compat.finder import is_alias
from omnidet.compat.table import INSTEAD, TABLE
from omnidet.compat.user_code import import_user_code
from omnidet.errors import ConfigError, OmniDetError
from omnidet.registry import BACKBONES, MODELS, NECKS, Registry


def test_every_row_of_the_table_leads_somewhere():
    compat.install()
    broken = []
    for module, row in TABLE.items():
        loaded = importlib.import_module(module)
        for name in row:
            try:
                getattr(loaded, name)
            except (AttributeError, ImportError) as e:
                broken.append(f'{module}.{name}: {e}')
    assert not broken and len(TABLE) > 50


def test_installing_imports_no_torch():
    code = ('import sys, omnidet.compat; omnidet.compat.install(); import mmdet.models, mmcv; '
            'from mmdet.registry import MODELS; assert "torch" not in sys.modules; import mmcv.cnn; mmcv.cnn.Scale; '
            'assert "torch" in sys.modules')
    subprocess.run([sys.executable, '-c', code], check=True, timeout=120)


def test_names_are_those_of_our_parts():
    compat.install()
    from mmcv.cnn.bricks.conv_module import ConvModule
    from mmdet.datasets import CocoDataset
    from mmdet.models import FPN, build_neck
    from mmdet.models.necks.fpn import FPN as SAME
    from mmdet.models.task_modules.assigners.max_iou_assigner import MaxIoUAssigner

    import omnidet.models.necks.fpn
    import omnidet.nn
    assert FPN is SAME is omnidet.models.necks.fpn.FPN and ConvModule is omnidet.nn.ConvModule
    neck = build_neck(dict(type='FPN', in_channels=[8, 16], out_channels=4, num_outs=2))
    assert isinstance(neck, FPN)
    assert MODELS.get('FPN') is FPN and MODELS.module_dict['FPN'] is FPN
    assert CocoDataset.__module__ == 'omnidet.data.datasets.coco' and MaxIoUAssigner.__name__ == 'MaxIoUAssigner'


@pytest.mark.parametrize(('statement', 'says'), [
    ('from mmcv.cnn import ConvModul', "mmcv.cnn has no 'ConvModul' here; did you mean 'ConvModule'"),
    ('from mmcv import xavier_init', 'it is in mmcv.cnn'),
    ('from mmdet.models.utils import no_such_thing_at_all', 'OmniDet has no counterpart'),
    ('import mmengine; mmengine.qqqqqqq', "mmengine has no 'qqqqqqq' here"),
])
def test_what_is_not_there_is_an_import_error_that_helps(statement, says):
    compat.install()
    for kind in (ImportError, OmniDetError):
        with pytest.raises(kind) as e:
            exec(statement)
        assert says in str(e.value)


def test_what_has_no_counterpart_can_be_imported_and_says_so_when_it_is_used():
    compat.install()
    from mmcv.ops import CARAFE
    from mmdet.models.dense_heads import AnchorHead
    from mmengine.runner import Runner
    with pytest.raises(compat.CompatError, match=r'mmcv\.ops\.CARAFE is not part of OmniDet: this operation'):
        CARAFE(8)
    with pytest.raises(compat.CompatError, match='omnidet train CONFIG'):
        Runner.from_cfg({})

    @MODELS.register_module()
    class MyAnchorHead(AnchorHead):
        def __init__(self, num_classes):
            super().__init__(num_classes)
    with pytest.raises(compat.CompatError, match=r'MyAnchorHead derives from mmdet\.models\.dense_heads\.AnchorHead.*'
                                                 r'docs/architecture\.md'):
        MODELS.build(dict(type='MyAnchorHead', num_classes=3))


def test_a_part_of_ours_whose_methods_would_not_be_called_is_refused():
    compat.install()
    from mmdet.models import RetinaHead

    @MODELS.register_module()
    class MyRetinaHead(RetinaHead):
        def loss_by_feat(self, *args):
            return {}
    with pytest.raises(ConfigError, match=r'MyRetinaHead overrides loss_by_feat\(\) of RetinaHead.*it has losses'):
        MODELS.build(dict(type='MyRetinaHead', num_classes=3, in_channels=4))


def test_a_package_that_is_installed_is_left_alone(tmp_path, monkeypatch, caplog):
    for name in ('mmcv', 'addict'):
        (tmp_path / name).mkdir()
        (tmp_path / name / '__init__.py').write_text('REAL = True')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert set(compat.install()) == {'mmdet', 'mmengine', 'mmcls', 'mmpretrain'}
    assert importlib.import_module('mmcv').REAL and not is_alias('mmcv.cnn') and is_alias('mmdet.models')
    assert compat.install() == compat.install()
    (tmp_path / 'my_real_user.py').write_text('from mmcv import REAL')
    with caplog.at_level(logging.WARNING, 'omnidet'):
        import_user_code('my_real_user', '--import')
    assert '--import my_real_user: mmcv is installed here and left alone' in caplog.text
    assert sum(type(f).__name__ == 'AliasFinder' for f in sys.meta_path) == 1


def test_a_clone_on_the_path_is_no_installation(tmp_path, monkeypatch):
    (tmp_path / 'mmdet').mkdir()
    (tmp_path / 'mmdet' / '__init__.py').write_text('raise RuntimeError')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert 'mmdet' in compat.install()
    from mmdet.registry import TASK_UTILS
    assert 'MaxIoUAssigner' in TASK_UTILS


def test_the_user_s_part_takes_the_place_of_ours_whichever_comes_first(caplog):
    ours = BACKBONES.get('ResNet')
    with caplog.at_level(logging.WARNING, 'omnidet'):
        @MODELS.register_module()
        class ResNet:
            pass
    assert BACKBONES.get('ResNet') is ResNet and 'takes the place' in caplog.text
    late = Registry('backbone', 'no.such.package')
    late.register_module(module=ResNet)
    late.register(ours)
    assert late.get('ResNet') is ResNet

    class Other:
        pass
    with pytest.raises(ConfigError, match='registered already'):
        MODELS.register_module(name='ResNet', module=Other)
    assert MODELS.register_module(name='ResNet', force=True, module=Other) is Other and NECKS.get('ResNet') is Other


def test_a_layer_registered_as_a_model_is_found_by_its_config():
    compat.install()
    import torch
    from mmcv.cnn import ConvModule
    from torch import nn

    @MODELS.register_module
    class Negation(nn.Module):
        def forward(self, x):
            return -x
    layer = ConvModule(1, 1, 1, act_cfg=dict(type='Negation'))
    x = torch.ones(1, 1, 2, 2)
    assert torch.equal(layer(x), -layer.conv(x))


def test_a_registry_of_the_user_s_own_stands_by_itself():
    compat.install()
    from mmengine.registry import Registry as Theirs
    from mmengine.registry import build_from_cfg
    mine = Theirs('pyramid', scope='mine')

    @mine.register_module('Flat')
    class Flat:
        def __init__(self, size, depth=1):
            self.size, self.depth = size, depth
    made = build_from_cfg(dict(type='Flat', size=3), mine, dict(depth=2, size=9))
    assert (made.size, made.depth) == (3, 2) and 'Flat' not in NECKS


def test_notes_say_what_to_use_and_no_name_is_both_served_and_refused():
    served = {name for row in TABLE.values() for name in row}
    assert all(len(note) > 15 for note in INSTEAD.values()) and not served & set(INSTEAD)

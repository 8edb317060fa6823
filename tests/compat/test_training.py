"""Parts of users' own, written for MMDetection, train."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import omnidet
from omnidet.cli import main
from omnidet.engine.logging import read_log
from omnidet.inference import Detector

NECK = "\nmodel['neck'] = dict(type='{}', in_channels=[16, 32, 64], out_channels=16, num_outs=4)\n"


def losses(work_dir: Path) -> list[float]:
    return [r['loss'] for r in read_log(work_dir / 'log.jsonl') if r['mode'] == 'train']


@pytest.mark.parametrize(('neck', 'name'), [('MyBiFPN', 'my_bifpn'), ('MyBiFPN', 'my_bifpn.py'),
                                            ('OldBiFPN', 'old_bifpn'), ('OldBiFPN', './old_bifpn.py')])
def test_a_neck_of_the_user_s_trains_and_its_checkpoint_loads(folder, write, neck, name):
    cfg = write(NECK.format(neck))
    assert main(['train', cfg, '--import', name, '--work-dir', 'out', '--seed', '0', '--device', 'cpu']) == 0
    assert len(losses(folder / 'out')) >= 1
    # the written config and the checkpoint are enough to go on with
    assert main(['test', 'out/config.py', 'out/epoch_1.pth', '--import', name, '--device', 'cpu']) == 0
    detector = Detector('out/config.py', 'out/epoch_1.pth', device='cpu')
    assert type(detector.model.neck).__name__ == neck
    assert detector('data/val/00001.png').boxes.shape[1] == 4


def test_custom_imports_are_followed_with_trust_and_explained_without(folder, write, capsys):
    cfg = write("\ncustom_imports = dict(imports=['mmdet.models.necks', 'my_bifpn'], allow_failed_imports=False)\n"
                + NECK.format('MyBiFPN'))
    assert main(['train', cfg, '--work-dir', 'out', '--device', 'cpu']) == 2
    said = capsys.readouterr().err
    assert "there is no 'MyBiFPN'" in said
    assert 'my_bifpn would be imported' in said and '--import my_bifpn' in said and '--trust' in said
    assert 'mmdet.models.necks' not in said    # nothing is missing of that
    assert 'my_bifpn' not in sys.modules
    assert main(['predict', cfg, 'none.pth', 'data/val', '--out', 'found']) == 2
    assert '--import my_bifpn' in capsys.readouterr().err    # the same where nothing is checked beforehand
    assert main(['train', cfg, '--trust', '--work-dir', 'out', '--device', 'cpu']) == 0
    assert 'my_bifpn' in sys.modules


def test_a_file_in_a_clone_of_mmdetection_is_the_user_s_and_the_clone_s_own_are_not_read(folder, write):
    necks = folder / 'mmdet' / 'models' / 'necks'
    necks.mkdir(parents=True)
    for package in (necks, necks.parent, necks.parents[1]):
        (package / '__init__.py').write_text('raise RuntimeError("the clone itself is read")')
    (necks / 'fpn.py').write_text('raise RuntimeError("a file of the clone is read")')
    for name in ('old_bifpn', 'old_fuse'):
        (folder / f'{name}.py').rename(necks / f'{name}.py')
    (necks / 'old_bifpn.py').write_text((necks / 'old_bifpn.py').read_text() + '\nfrom .fpn import FPN\n')
    cfg = write("\ncustom_imports = dict(imports=['mmdet.models.necks.old_bifpn'])\n" + NECK.format('OldBiFPN'))
    assert main(['train', cfg, '--trust', '--work-dir', 'out', '--device', 'cpu']) == 0
    from omnidet.models.necks.fpn import FPN
    assert sys.modules['mmdet.models.necks.old_bifpn'].FPN is FPN    # type: ignore[attr-defined]


BACKBONE = """
model['backbone'] = dict(type='StripedNetAlias', width=4)
model['bbox_head']['loss_cls'] = dict(type='OneHotLoss', loss_weight=0.5)
model['bbox_head']['loss_bbox'] = dict(type='SquaredBoxLoss')
"""


def test_a_backbone_with_layers_of_its_own_and_losses_train(folder, write):
    names = [a for n in ('my_backbone', 'my_losses') for a in ('--import', n)]
    assert main(['train', write(BACKBONE), *names, '--work-dir', 'out', '--device', 'cpu']) == 0
    seen = sys.modules['my_losses'].SEEN    # type: ignore[attr-defined]
    N = 2 * (8 * 8 + 4 * 4 + 2 * 2 + 1)    # two images, the cells of four levels
    assert seen == {'cls': ((N, 6), (N,), (N,)), 'box': ((N, 4), (N, 4), (N, 4))}


DATA = """
train_dataloader['dataset'] = dict(
    type='{}', ann_file='lines.json', data_prefix=dict(img='data/train'), pipeline=[
        pipeline[0], pipeline[1], dict(type='{}'), pipeline[2]])
train_dataloader.update(num_workers=1, multiprocessing_context='{}')
val_evaluator = [dict(type='CountMetric'), val_evaluator]
custom_hooks = [dict(type='MomentsHook'), dict(type='OldMomentsHook', priority='LOW')]
"""


def lines(folder: Path) -> None:
    """The training set in the form that the users' data sets read."""
    import json
    coco = json.loads((folder / 'data/annotations/train.json').read_text())
    images = [dict(id=i['id'], name=i['file_name'], width=i['width'], height=i['height'], weather='fog', boxes=[
        ([x, y, x + w, y + h], a['category_id'] - 1) for a in coco['annotations'] if a['image_id'] == i['id']
        for x, y, w, h in [a['bbox']]]) for i in coco['images']]
    (folder / 'lines.json').write_text(json.dumps(images))


@pytest.mark.parametrize(('dataset', 'transform', 'context'), [
    ('LinesDataset', 'MirrorAlways', 'fork'), ('OldLinesDataset', 'OldDropOdd', 'spawn')])
def test_data_hooks_and_metrics_of_the_user_s_work_together(folder, write, dataset, transform, context):
    lines(folder)
    cfg = write(DATA.format(dataset, transform, context))
    assert main(['train', cfg, '--import', 'my_data', '--work-dir', 'out', '--device', 'cpu']) == 0
    moments = sys.modules['my_data'].MOMENTS    # type: ignore[attr-defined]
    assert moments == [('before_train', 1, 4), ('before_run', True), ('after_train_iter', 1, 1, True),
                       ('after_train_iter', 3, 3, True), ('old after_train_iter', True, 1), ('after_val', 1)]
    val = next(r for r in read_log(folder / 'out' / 'log.jsonl') if r['mode'] == 'val')
    assert (val['count/images'], val['count/classes']) == (2, 6)
    assert val['count/objects'] > 2 and 'coco/bbox_mAP' in val


@pytest.mark.slow
def test_processes_of_torchrun_import_the_user_s_modules(folder, write):
    cfg = write(NECK.format('MyBiFPN'))
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    running = []
    for rank in range(2):
        env = {**os.environ, 'PYTHONPATH': str(Path(omnidet.__file__).parents[1]), 'RANK': str(rank), 'WORLD_SIZE': '2',
               'LOCAL_RANK': str(rank), 'OMP_NUM_THREADS': '1', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)}
        running.append(subprocess.Popen(
            [sys.executable, '-m', 'omnidet', 'train', cfg, '--import', 'my_bifpn', '--work-dir', 'out', '--device',
             'cpu'], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    for process in running:
        text, _ = process.communicate(timeout=200)
        assert process.returncode == 0, text
    assert torch.load(folder / 'out' / 'epoch_1.pth', weights_only=False)['meta']['iter'] == 2

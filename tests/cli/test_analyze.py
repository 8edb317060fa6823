"""`omnidet analyze` and the doors under MMDetection's names, from arguments to what is printed and written."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import omnidet
from omnidet.cli import main
from omnidet.demo.shapes import CLASSES, write_dataset

ROOT = Path(omnidet.__file__).parents[1]
DOORS = ('train', 'test', 'misc.print_config', 'model_converters.publish_model', 'dataset_converters.pascal_voc',
         *(f'analysis_tools.{name}' for name in (
             'get_flops', 'browse_dataset', 'analyze_logs', 'confusion_matrix', 'eval_metric', 'benchmark',
             'analyze_results', 'optimize_anchors')))


@pytest.fixture(scope='module')
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, a config, and results that are right but for one class."""
    root = tmp_path_factory.mktemp('project')
    write_dataset(root / 'data', dict(train=3, val=3), seed=3, size=96)
    (root / 'c.py').write_text(f"""
_base_ = 'omnidet::demo/rtmdet_shapes.py'
_root = {str(root / 'data')!r}
train_dataloader = dict(dataset=dict(data_root=_root), num_workers=0)
val_dataloader = dict(dataset=dict(data_root=_root), num_workers=0)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=_root + '/annotations/val.json')
test_evaluator = val_evaluator
""")
    from omnidet.data import build_dataset
    dataset = build_dataset(omnidet.load_config(root / 'c.py').test_dataloader.dataset, test_mode=True)
    items = []
    for i, image_id in enumerate(dataset.image_ids):
        objects = dataset.load(i)['instances']
        labels = np.array([x['bbox_label'] for x in objects])
        items.append(dict(img_id=image_id, pred_instances=dict(
            bboxes=np.array([x['bbox'] for x in objects], np.float32).reshape(-1, 4),
            scores=np.full(len(objects), 0.9, np.float32), labels=np.where(labels == 1, 0, labels))))
    (root / 'r.pkl').write_bytes(pickle.dumps(items))
    return root


def run(project: Path, capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(['analyze', *argv]) == 0
    return capsys.readouterr().out


def test_flops_says_what_it_counts_in_both_words(capsys):
    assert main(['analyze', 'flops', 'retinanet/retinanet_r50_fpn_1x_coco', '--shape', '1280', '800']) == 0
    out = capsys.readouterr().out
    assert '37.97 M' in out and '238.54 GMACs' in out and '477.07 GFLOPs' in out and '1280 x 800' in out
    assert main(['analyze', 'flops', 'ssd/ssd300_coco', '--shape', '1', '2', '3']) == 2
    assert '--shape takes a height and a width' in capsys.readouterr().err


def test_evaluate_scores_results_without_a_model(project, capsys):
    out = run(project, capsys, 'evaluate', str(project / 'c.py'), str(project / 'r.pkl'), '--eval', 'bbox',
              '--eval-options', 'classwise=True')
    assert '3 of 3 images' in out and CLASSES[1] in out
    row = next(line.split() for line in out.splitlines() if line.split()[:1] == [CLASSES[2]])
    assert row[2] == '1.000'


def test_confusion_prints_which_class_is_taken_for_which(project, capsys):
    out = run(project, capsys, 'confusion', str(project / 'c.py'), str(project / 'r.pkl'), str(project / 'conf'))
    row = next(line for line in out.splitlines() if line.split()[:1] == [CLASSES[1]])
    assert f'{CLASSES[0]} (' in row and ' 0.0%' in row
    assert (project / 'conf/confusion_matrix.png').is_file() and (project / 'conf/confusion_matrix.csv').is_file()


def test_the_other_actions_write_what_they_say(project, capsys, monkeypatch):
    monkeypatch.chdir(project)
    out = run(project, capsys, 'results', 'c.py', 'r.pkl', 'ranked', '--topk', '1')
    assert '1 best: ranked' in out and (project / 'ranked/bad.jpg').is_file()
    out = run(project, capsys, 'dataset', 'c.py', '--output-dir', 'seen', '--not-show', '--show-number', '2')
    assert '2 pictures: seen' in out and (project / 'seen/sheet.jpg').is_file()
    out = run(project, capsys, 'anchors', 'c.py', '--input-shape', '96', '--num-anchors', '3', '--levels', '3')
    assert out.count('    [(') == 3
    out = run(project, capsys, 'speed', 'c.py', '--task', 'dataset', '--max-iter', '2', '--num-warmup', '0')
    assert 'dataset: ' in out and '2 steps of 1 image' in out


def test_logs_are_drawn_and_summed_up(project, capsys):
    (project / 'run').mkdir(exist_ok=True)
    (project / 'run/log.jsonl').write_text(''.join(
        f'{{"mode": "train", "epoch": 1, "iter": {n}, "lr": 0.1, "loss": {5 - n}, "time": 0.5}}\n' for n in (1, 2, 3)))
    out = run(project, capsys, 'logs', str(project / 'run'), '--out', str(project / 'c.svg'))
    assert out.split('loss')[1].split()[:4] == ['3', '4', '2', '2']
    assert (project / 'c.svg').is_file()
    assert '0.5000 s/iter' in run(project, capsys, 'time', str(project / 'run'))


def test_an_action_and_an_argument_that_are_not_there_are_answered(capsys):
    for argv, expected in ((['analyze', 'flop'], 'flop'),
                           (['analyze', 'logs', 'a', '--kys', 'x'], "did you mean '--keys'")):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2
        assert expected in capsys.readouterr().err


def python(*args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, env=env, check=False)


@pytest.mark.parametrize('name', DOORS)
def test_every_door_says_what_it_takes_without_torch(name):
    code = ('import runpy, sys\nsys.argv = ["x", "--help"]\n'
            f'try: runpy.run_module("omnidet.tools.{name}", run_name="__main__")\n'
            'except SystemExit as e: print("status", e.code)\n'
            'print([m for m in ("torch", "cv2", "matplotlib") if m in sys.modules])')
    done = python('-c', code)
    assert done.stdout.splitlines()[-2:] == ['status 0', '[]'], done.stderr
    assert len(done.stdout) > 200


def test_doors_pass_their_arguments_on(project):
    log = project / 'run2/1.log.json'
    log.parent.mkdir(exist_ok=True)
    log.write_text('{"mode": "train", "epoch": 1, "iter": 1, "lr": 0.1, "loss": 1, "loss_cls": 2, "time": 0.5}\n')
    door = 'omnidet.tools.analysis_tools.analyze_logs'
    done = python('-m', door, 'plot_curve', str(log), '--keys', 'loss_cls', '--out', str(project / 'o.png'))
    assert done.returncode == 0 and (project / 'o.png').is_file(), done.stderr
    assert 'average iter time: 0.5000' in python('-m', door, 'cal_train_time', str(log), '--include-outliers').stdout
    wrong = python('-m', door, 'plot_curv', str(log))
    assert wrong.returncode == 2 and "did you mean 'plot_curve'" in wrong.stderr
    shown = python('-m', 'omnidet.tools.misc.print_config', str(project / 'c.py'), '--cfg-options', 'x=5')
    assert shown.returncode == 0 and 'x = 5' in shown.stdout


def test_pascal_voc_s_devkit_becomes_one_json_for_each_split(tmp_path):
    import json

    import cv2
    voc = tmp_path / 'VOC2007'
    for folder in ('Annotations', 'JPEGImages', 'ImageSets/Main'):
        (voc / folder).mkdir(parents=True)
    cv2.imwrite(str(voc / 'JPEGImages/1.jpg'), np.zeros((20, 30, 3), np.uint8))
    (voc / 'Annotations/1.xml').write_text(
        '<annotation><size><width>30</width><height>20</height></size><object><name>dog</name><bndbox><xmin>1</xmin>'
        '<ymin>2</ymin><xmax>11</xmax><ymax>12</ymax></bndbox></object></annotation>')
    (voc / 'ImageSets/Main/val.txt').write_text('1\n')
    door = 'omnidet.tools.dataset_converters.pascal_voc'
    done = python('-m', door, str(tmp_path), '-o', str(tmp_path / 'out'), '--out-format', 'coco')
    assert done.returncode == 0, done.stderr
    assert '1 images, 1 boxes' in done.stdout
    content = json.loads((tmp_path / 'out/voc07_val.json').read_text())
    assert len(content['categories']) == 20 and content['annotations'][0]['bbox'] == [1, 2, 10, 10]
    empty = python('-m', door, str(tmp_path / 'out'))
    assert empty.returncode == 2 and 'neither VOC2007/ nor VOC2012/' in empty.stderr

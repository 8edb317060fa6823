"""What MMDetection's users type is understood, or answered with what to type."""

from __future__ import annotations

import os
import shlex

import pytest

from omnidet.cli import main, parse
from omnidet.cli.arguments import read_config
from omnidet.cli.legacy import apply_launch
from omnidet.cli.train import apply_switches, resume_of
from omnidet.errors import OmniDetError


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE'):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(('argv', 'resume'), [
    (['--resume-from', 'a.pth'], 'a.pth'), (['--auto-resume'], True), (['--resume', 'auto'], True), ([], False),
    (['--resume', 'a.pth', '--auto-resume'], 'a.pth'), (['--resume', '--resume-from', 'a.pth'], 'a.pth')])
def test_all_spellings_of_resume(argv, resume):
    assert resume_of(parse(['train', 'c.py', *argv])) == resume


def test_two_checkpoints_to_resume_from_are_one_too_many():
    with pytest.raises(OmniDetError, match=r'--resume a.pth and --resume-from b.pth'):
        resume_of(parse(['train', 'c.py', '--resume', 'a.pth', '--resume-from', 'b.pth']))


@pytest.mark.parametrize(('argv', 'device'), [
    (['--gpu-id', '1'], 'cuda:1'), (['--gpu-ids', '3'], 'cuda:3'), (['--gpus', '0'], 'cpu'), (['--gpus', '1'], None),
    (['--gpu-id', '1', '--device', 'cpu'], 'cpu'), ([], None)])
def test_a_gpu_by_its_number_is_a_device(argv, device):
    args = parse(['train', 'c.py', *argv])
    apply_launch(args, 'train')
    assert args.device == device


@pytest.mark.parametrize(('argv', 'expected'), [
    (['--gpus', '8'], 'for 8 of them type\n  torchrun --nproc-per-node 8 -m omnidet train c.py'),
    (['--gpu-ids', '2', '5'], 'CUDA_VISIBLE_DEVICES=2,5 torchrun --nproc-per-node 2 -m omnidet train c.py'),
    (['--launcher', 'pytorch'], 'torchrun --nproc-per-node N -m omnidet train c.py'),
    (['--launcher', 'slurm'], 'srun --nodes M --ntasks-per-node 1 torchrun --nnodes M'),
    (['--launcher', 'mpi'], 'on each of M nodes,\n  torchrun --nnodes M')])
def test_several_devices_are_answered_with_the_line_to_type(argv, expected):
    with pytest.raises(OmniDetError) as e:
        apply_launch(parse(['train', 'c.py', *argv]), 'train')
    assert expected in str(e.value)


def test_the_local_rank_of_the_old_launcher_reaches_the_environment(monkeypatch):
    monkeypatch.setenv('RANK', '3')
    monkeypatch.setenv('LOCAL_RANK', '0')    # put back after the test
    monkeypatch.delenv('LOCAL_RANK')
    for spelling in ('--local_rank=3', '--local-rank=3'):
        os.environ.pop('LOCAL_RANK', None)
        apply_launch(parse(['train', 'c.py', '--launcher', 'pytorch', spelling]), 'train')
        assert os.environ['LOCAL_RANK'] == '3'


def test_options_of_old_are_cfg_options_in_training_and_eval_options_in_testing(tmp_path):
    (tmp_path / 'a.py').write_text('x = 1\n')
    args = parse(['train', str(tmp_path / 'a.py'), '--options', 'x=2', 'y=3', '--cfg-options', 'z=4'])
    cfg = read_config(args)
    assert (cfg.x, cfg.y, cfg.z) == (2, 3, 4)
    args = parse(['test', 'c.py', 'd.pth', '--options', 'classwise=True', '--cfg-options', 'x=2'])
    assert (args.eval_options, args.cfg_options) == (['classwise=True'], ['x=2'])


def test_switches_of_2_x_are_written_into_the_config():
    cfg: dict = dict(val_dataloader=dict(batch_size=1), val_evaluator=dict(type='CocoMetric'), val_cfg=dict(),
                     randomness=dict(seed=1))
    apply_switches(cfg, no_validate=True, deterministic=True)    # type: ignore[arg-type]
    assert cfg.pop('randomness') == dict(seed=1, deterministic=True)
    assert cfg == dict(val_dataloader=None, val_evaluator=None, val_cfg=None)


def test_the_whole_line_of_a_2_x_user_is_understood():
    args = parse(shlex.split('train c.py --work-dir w --resume-from a.pth --no-validate --gpus 1 --seed 0 '
                             '--deterministic --diff-seed --launcher none --auto-scale-lr --cfg-options a=1'))
    assert (str(args.work_dir), args.seed, args.no_validate, args.deterministic) == ('w', 0, True, True)
    args = parse(shlex.split('test c.py a.pth --out r.pkl --fuse-conv-bn --eval bbox segm --show-dir d '
                             '--show-score-thr 0.5 --gpu-collect --tmpdir t --launcher none '
                             '--eval-options classwise=True --gpu-id 0'))
    assert (args.metrics, args.score_thr, args.eval_options) == (['bbox', 'segm'], 0.5, ['classwise=True'])


@pytest.mark.parametrize(('argv', 'expected'), [
    (['--out', 'r.txt'], 'take .pkl for the results of every image'),
    (['--eval', 'bbox', '--format-only'], '--eval measures and --format-only does not')])
def test_what_does_not_go_together_is_told_before_a_model_is_built(argv, expected, tmp_path, capsys):
    (tmp_path / 'c.py').write_text('test_dataloader = dict(dataset=dict())\ntest_evaluator = dict(type="CocoMetric")\n')
    assert main(['test', str(tmp_path / 'c.py'), 'none.pth', *argv]) == 2
    assert expected in capsys.readouterr().err

"""Two processes on a CPU train and measure as one does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import two_processes

import omnidet
from omnidet.engine import distributed, pick_device
from omnidet.engine.logging import read_log
from omnidet.errors import ConfigError
from omnidet.ops.distributed import reduce_mean

HERE = Path(__file__).parent


def launch(out: Path, world_size: int) -> None:
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    paths = os.pathsep.join([str(Path(omnidet.__file__).parents[1]), str(HERE)])
    running = []
    for rank in range(world_size):
        env = {**os.environ, 'PYTHONPATH': paths, 'RANK': str(rank), 'LOCAL_RANK': str(rank), 'OMP_NUM_THREADS': '1',
               'WORLD_SIZE': str(world_size), 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)}
        command = [sys.executable, str(HERE / 'two_processes.py'), str(out), str(rank), str(world_size)]
        running.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    for process in running:
        text, _ = process.communicate(timeout=60)
        assert process.returncode == 0, text


def test_two_processes_train_and_measure_as_one_with_the_whole_batch(tmp_path):
    one, two = tmp_path / 'one', tmp_path / 'two'
    one.mkdir()
    two.mkdir()
    two_processes.main(one, 0, 1)
    launch(two, 2)
    alone, *ranks = (json.loads(p.read_text()) for p in (one / 'rank0.json', two / 'rank0.json', two / 'rank1.json'))
    assert ranks[0] == ranks[1]    # equal weights, and every process knows the figures
    for name, value in alone['weights'].items():
        torch.testing.assert_close(torch.tensor(ranks[0]['weights'][name]), torch.tensor(value), rtol=1e-4, atol=1e-5)
    assert ranks[0]['metrics'] == pytest.approx(alone['metrics'], rel=1e-4)
    assert ranks[0]['metrics']['tiny/count'] == ranks[0]['metrics']['tiny/ids'] == 7    # no image twice, none left out
    for key in ('loss', 'loss_cls', 'lr'):
        a, b = ([r[key] for r in read_log(d / 'log.jsonl') if r['mode'] == 'train'] for d in (one, two))
        assert a == pytest.approx(b, rel=1e-4)
    assert len(list(two.glob('epoch_*.pth'))) == 3


def test_one_process_needs_nothing():
    value = torch.tensor([1.0, 2.0])
    assert distributed.gather('x') == ['x'] and distributed.broadcast('x') == 'x'
    assert reduce_mean(value) is value
    assert distributed.is_main() and distributed.world_size() == 1


def test_a_device_that_is_not_there_is_explained():
    assert pick_device('cpu') == torch.device('cpu')
    with pytest.raises(ConfigError, match='not a device'):
        pick_device('gpu0')
    with pytest.raises(ConfigError, match='is not there'):
        pick_device('cuda:99')

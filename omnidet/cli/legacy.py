"""Arguments as MMDetection's users type them, of its 2.x and 3.x tools: understood, or answered with what to type."""

from __future__ import annotations

import argparse
import os
from typing import Any

from omnidet.errors import OmniDetError

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


def add_launch(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """How processes are started, and which devices they take; gives the group of such arguments."""
    group = parser.add_argument_group("MMDetection's spellings")
    group.add_argument('--launcher', choices=LAUNCHERS, default='none',
                       help='none, or pytorch where torchrun or torch.distributed.launch starts this')
    group.add_argument('--local_rank', '--local-rank', dest='local_rank', type=int, metavar='N',
                       help='given by torch.distributed.launch')
    group.add_argument('--gpu-id', type=int, metavar='N', help='as --device cuda:N')
    group.add_argument('--gpu-ids', type=int, nargs='+', metavar='N', help='one number, as --device cuda:N')
    return group


def add_training(parser: argparse.ArgumentParser) -> None:
    """What 2.x's `tools/train.py` takes under other names than `omnidet train`."""
    group = add_launch(parser)
    group.add_argument('--gpus', type=int, metavar='N', help='0 is --device cpu; more than 1 wants torchrun')
    group.add_argument('--resume-from', metavar='CKPT', help='as --resume CKPT')
    group.add_argument('--auto-resume', action='store_true', help='as --resume')
    group.add_argument('--no-validate', action='store_true', help='train without measuring on the validation set')
    group.add_argument('--validate', action='store_true', help='accepted; a training measures in any case')
    group.add_argument('--deterministic', action='store_true', help='as --cfg-options randomness.deterministic=True')
    group.add_argument('--diff-seed', action='store_true', help='accepted; each process has random numbers of its own')
    group.add_argument('--options', nargs='+', action='extend', dest='cfg_options', metavar='KEY=VALUE',
                       help='as --cfg-options')


def add_testing(parser: argparse.ArgumentParser) -> None:
    """What 2.x's `tools/test.py` takes under other names than `omnidet test`."""
    group = add_launch(parser)
    group.add_argument('--show', action='store_true',
                       help='as --show-dir with a folder in the work folder: pictures are written, no window is opened')
    group.add_argument('--options', '--format-options', nargs='+', action='extend', dest='eval_options',
                       metavar='KEY=VALUE', help='as --eval-options')
    group.add_argument('--wait-time', '--show-interval', type=float, metavar='SECONDS', dest='wait_time',
                       help='accepted; there is no window to wait for')
    group.add_argument('--gpu-collect', action='store_true', help='accepted; results are gathered in any case')
    group.add_argument('--tmpdir', metavar='DIR', help='accepted; results are gathered without files')


def apply_launch(args: argparse.Namespace, command: str) -> None:
    """Set `args.device` and the process's environment as the arguments of `add_launch` and `--gpus` ask.

    Raises:
        OmniDetError: processes that were not started, or several devices for one; the message says what to type.
    """
    if args.launcher in ('slurm', 'mpi'):
        nodes = '--nnodes M --rdzv-backend c10d --rdzv-endpoint HOST:29500 '
        start = 'srun --nodes M --ntasks-per-node 1 ' if args.launcher == 'slurm' else ''
        raise OmniDetError(f'--launcher {args.launcher}: torchrun starts the processes; type, on each of M nodes,\n'
                           f'  {start}{_torchrun(args, command, "N", nodes)}')
    if args.local_rank is not None:
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.launcher == 'pytorch' and 'RANK' not in os.environ:
        raise OmniDetError(f'--launcher pytorch: this process was not started by torchrun; type\n'
                           f'  {_torchrun(args, command, "N")}')
    ids = args.gpu_ids or ([] if args.gpu_id is None else [args.gpu_id])
    several = max(len(ids), getattr(args, 'gpus', None) or 0)
    if several > 1 and args.launcher == 'none':
        raise OmniDetError(f'one process uses one GPU; for {several} of them type\n  '
                           + (f'CUDA_VISIBLE_DEVICES={",".join(map(str, ids))} ' if ids else '')
                           + _torchrun(args, command, several))
    if args.device is None and len(ids) == 1 and args.launcher == 'none':
        args.device = f'cuda:{ids[0]}'
    elif args.device is None and getattr(args, 'gpus', None) == 0:
        args.device = 'cpu'


def _torchrun(args: argparse.Namespace, command: str, processes: Any, more: str = '') -> str:
    return f'torchrun {more}--nproc-per-node {processes} -m omnidet {command} {args.config} ...'

"""Training, testing, and what they are made of: optimizer, schedule, averages, checkpoints, hooks."""

from omnidet.checkpoints import LoadReport, load_checkpoint, load_pretrained, load_weights, save_checkpoint
from omnidet.engine.distributed import pick_device
from omnidet.engine.evaluate import evaluate, test
from omnidet.engine.hooks import Hook
from omnidet.engine.optim import build_optimizer
from omnidet.engine.schedule import lr_curve
from omnidet.engine.train import train

__all__ = ['Hook', 'LoadReport', 'build_optimizer', 'evaluate', 'load_checkpoint', 'load_pretrained', 'load_weights',
           'lr_curve', 'pick_device', 'save_checkpoint', 'test', 'train']

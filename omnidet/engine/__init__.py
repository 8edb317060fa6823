"""Training, testing, and what they are made of: optimizer, schedule, averages, checkpoints, hooks."""

from omnidet.engine.checkpoint import LoadReport, load_checkpoint, load_pretrained, load_weights, save_checkpoint
from omnidet.engine.optim import build_optimizer
from omnidet.engine.schedule import lr_curve

__all__ = ['LoadReport', 'build_optimizer', 'load_checkpoint', 'load_pretrained', 'load_weights', 'lr_curve', 'save_checkpoint']

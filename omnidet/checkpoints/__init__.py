"""Files of weights: found or downloaded, read without trust, matched to a model by name, written whole."""

from omnidet.checkpoints.checkpoint import LoadReport, load_checkpoint, load_weights, save_checkpoint
from omnidet.checkpoints.pretrained import load_pretrained

__all__ = ['LoadReport', 'load_checkpoint', 'load_pretrained', 'load_weights', 'save_checkpoint']

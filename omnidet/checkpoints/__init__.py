"""Files of weights: read without trust, matched to a model by name, written whole or not at all."""

from omnidet.checkpoints.checkpoint import LoadReport, load_checkpoint, load_pretrained, load_weights, save_checkpoint

__all__ = ['LoadReport', 'load_checkpoint', 'load_pretrained', 'load_weights', 'save_checkpoint']

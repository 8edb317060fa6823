"""From files on disk to batches: data sets, transforms, samplers and loaders."""

from omnidet.data.collate import collate, collate_versions
from omnidet.data.load_input import TestPipeline, load_input
from omnidet.data.loader import Loader, build_dataset, build_loader
from omnidet.data.preprocess import build_preprocessor

__all__ = ['Loader', 'TestPipeline', 'build_dataset', 'build_loader', 'build_preprocessor', 'collate',
           'collate_versions', 'load_input']

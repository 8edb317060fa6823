"""Inference: what a user calls on images."""

from omnidet.inference.detector import Detector, Prediction
from omnidet.inference.fuse import fuse_conv_bn
from omnidet.inference.predict import PredictSummary, predict_to

__all__ = ['Detector', 'PredictSummary', 'Prediction', 'fuse_conv_bn', 'predict_to']

"""Evaluation: results in, numbers out."""

from omnidet.evaluation.coco import CocoMetric
from omnidet.evaluation.metric import Metric, build_metrics

__all__ = ['CocoMetric', 'Metric', 'build_metrics']

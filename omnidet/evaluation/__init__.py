"""Evaluation: results in, numbers out."""

from omnidet.evaluation.coco import CocoMetric
from omnidet.evaluation.metric import Metric, build_metrics
from omnidet.evaluation.voc import VOCMetric

__all__ = ['CocoMetric', 'Metric', 'VOCMetric', 'build_metrics']

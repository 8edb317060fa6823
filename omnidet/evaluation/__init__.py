"""Evaluation: results in, numbers out."""

from omnidet.evaluation.cityscapes import CityScapesMetric
from omnidet.evaluation.coco import CocoMetric
from omnidet.evaluation.metric import Metric, build_metrics
from omnidet.evaluation.voc import VOCMetric

__all__ = ['CityScapesMetric', 'CocoMetric', 'Metric', 'VOCMetric', 'build_metrics']

"""Evaluation: results in, numbers out."""

from omnidet.evaluation.cityscapes import CityScapesMetric
from omnidet.evaluation.coco import CocoMetric
from omnidet.evaluation.metric import Metric, build_metrics
from omnidet.evaluation.panoptic import CocoPanopticMetric
from omnidet.evaluation.voc import VOCMetric

__all__ = ['CityScapesMetric', 'CocoMetric', 'CocoPanopticMetric', 'Metric', 'VOCMetric', 'build_metrics']

# ruff: noqa
"""A data set, transforms of both series, a hook of each, and a metric."""

import json
import os.path as osp

import mmcv
import numpy as np
from mmcv.runner import HOOKS as OLD_HOOKS
from mmcv.runner import Hook as OldHook
from mmcv.transforms import BaseTransform
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook

from mmdet.datasets import BaseDetDataset, CustomDataset
from mmdet.datasets.builder import DATASETS as OLD_DATASETS
from mmdet.datasets.builder import PIPELINES
from mmdet.registry import DATASETS, HOOKS, METRICS, TRANSFORMS

MOMENTS = []


@DATASETS.register_module()
class LinesDataset(BaseDetDataset):
    METAINFO = {'classes': ('circle', 'square', 'triangle', 'star', 'cross', 'ring')}

    def load_data_list(self):
        with open(self.ann_file) as f:
            images = json.load(f)
        return [dict(img_path=osp.join(self.data_prefix['img'], i['name']), img_id=i['id'], width=i['width'],
                     height=i['height'], weather=i['weather'],
                     instances=[dict(bbox=b, bbox_label=c, ignore_flag=0, age=7) for b, c in i['boxes']])
                for i in images]


@OLD_DATASETS.register_module()
class OldLinesDataset(CustomDataset):
    CLASSES = ('circle', 'square', 'triangle', 'star', 'cross', 'ring')
    PALETTE = [(i, i, i) for i in range(6)]

    def load_annotations(self, ann_file):
        self.names = []
        infos = []
        for i in mmcv.load(ann_file):
            self.names.append(i['name'])
            infos.append(dict(id=i['id'], filename=i['name'], width=i['width'], height=i['height'], ann=dict(
                bboxes=np.array([b for b, _ in i['boxes']], dtype=np.float32).reshape(-1, 4),
                labels=np.array([c for _, c in i['boxes']], dtype=np.int64),
                bboxes_ignore=np.array([[1, 2, 3, 5]], dtype=np.float32))))
        return infos


@TRANSFORMS.register_module()
class MirrorAlways(BaseTransform):

    def transform(self, results):
        results['img'] = mmcv.imflip(results['img'])
        results['gt_bboxes'].flip_(results['img_shape'], 'horizontal')
        results['flip'], results['flip_direction'] = True, 'horizontal'
        results['seen'] = results.get('weather'), results['instances'][0].get('age')
        return results


@PIPELINES.register_module()
class OldDropOdd(object):
    """Leaves every second object out."""

    def __call__(self, results):
        for key in results.get('bbox_fields', []):
            assert results[key].shape[1] == 4
        keep = np.arange(len(results['gt_labels'])) % 2 == 0
        results['gt_bboxes'] = results['gt_bboxes'][keep]
        results['gt_labels'] = results['gt_labels'][keep]
        return results

    def __repr__(self):
        return self.__class__.__name__ + '()'


@HOOKS.register_module()
class MomentsHook(Hook):
    priority = 'LOW'

    def before_train(self, runner):
        MOMENTS.append(('before_train', runner.max_epochs, len(runner.train_dataloader)))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.every_n_train_iters(runner, 2):
            MOMENTS.append(('after_train_iter', runner.iter, batch_idx, float(outputs['loss']) > 0))

    def after_val(self, runner):
        MOMENTS.append(('after_val', runner.epoch))

    def after_train_epoch(self, runner):
        for group in runner.optim_wrapper.param_groups:
            group['seen'] = True
        runner.logger.info('an epoch ends')


@OLD_HOOKS.register_module()
class OldMomentsHook(OldHook):

    def before_run(self, runner):
        MOMENTS.append(('before_run', runner.work_dir is not None))

    def after_train_iter(self, runner):
        if self.end_of_epoch(runner):
            MOMENTS.append(('old after_train_iter', runner.outputs['log_vars']['loss'] > 0, len(runner.current_lr())))


@METRICS.register_module()
class CountMetric(BaseMetric):
    default_prefix = 'count'

    def process(self, data_batch, data_samples):
        for sample in data_samples:
            pred = sample['pred_instances']
            self.results.append((sample['img_id'], len(pred['scores']), len(sample['gt_instances']['labels'])))

    def compute_metrics(self, results):
        return dict(images=len(results), objects=sum(r[2] for r in results),
                    classes=len(self.dataset_meta['classes']))

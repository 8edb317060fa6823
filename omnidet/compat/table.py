"""The table: what the names of OpenMMLab's modules lead to, and what to use where OmniDet has no counterpart.

A value is `package.module:name`, loaded when the name is first asked for. A module within one of the table has the same
names (`mmcv.cnn.bricks.conv_module` those of `mmcv.cnn`). A name that is not here is looked up among all registered
parts: that is how `from mmdet.models import FPN` is found.
"""

from __future__ import annotations

VERSIONS = {'mmdet': '3.3.0', 'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmcls': '0.25.0', 'mmpretrain': '1.2.0'}
"""What `__version__` says, for code that asks."""


def _from(home: str, *names: str, **renamed: str) -> dict[str, str]:
    """A row: names that are the same there, and `theirs='ours'`."""
    return {**{n: f'{home}:{n}' for n in names}, **{k: f'{home}:{v}' for k, v in renamed.items()}}


_C = 'omnidet.compat.'

_MODELS = _from('omnidet.registry', **{name: 'MODELS' for name in (
    'MODELS', 'BACKBONES', 'NECKS', 'HEADS', 'LOSSES', 'DETECTORS', 'ROI_EXTRACTORS', 'SHARED_HEADS', 'TRANSFORMER',
    'ATTENTION', 'FEEDFORWARD_NETWORK', 'TRANSFORMER_LAYER', 'TRANSFORMER_LAYER_SEQUENCE', 'DROPOUT_LAYERS',
    'POSITIONAL_ENCODING', 'LINEAR_LAYERS', 'SEGMENTORS', 'CLASSIFIERS')})
_LAYER_KINDS = _from('omnidet.registry', 'CONV_LAYERS', 'NORM_LAYERS', 'UPSAMPLE_LAYERS',
                     ACTIVATION_LAYERS='ACTIVATIONS', PLUGIN_LAYERS='PLUGINS', PADDING_LAYERS='PLUGINS')
_TASKS = _from('omnidet.registry', 'TASK_UTILS', 'IOU_CALCULATORS', BBOX_ASSIGNERS='ASSIGNERS',
               BBOX_SAMPLERS='SAMPLERS', BBOX_CODERS='CODERS', MATCH_COST='MATCH_COSTS', PRIOR_GENERATORS='PRIORS',
               ANCHOR_GENERATORS='PRIORS')
_RUN_KINDS = _from('omnidet.registry', 'DATASETS', 'DATA_SAMPLERS', 'TRANSFORMS', 'METRICS', 'HOOKS', 'LOOPS',
                   'OPTIMIZERS', 'OPTIM_WRAPPERS', 'PARAM_SCHEDULERS', 'VISUALIZERS', PIPELINES='TRANSFORMS',
                   SAMPLERS='DATA_SAMPLERS')
_BUILDERS = _from(_C + 'registries', 'build_backbone', 'build_neck', 'build_loss', 'build_head', 'build_roi_extractor',
                  'build_shared_head')
_TASK_BUILDERS = _from(_C + 'registries', 'build_prior_generator', 'build_anchor_generator', 'build_bbox_coder',
                       'build_assigner', 'build_sampler', 'build_iou_calculator', 'build_match_cost')
_BASES = _from(_C + 'nn', 'BaseModule', 'Sequential', 'ModuleList', 'ModuleDict')
_INIT = _from(_C + 'nn', 'constant_init', 'xavier_init', 'normal_init', 'trunc_normal_init', 'uniform_init',
              'kaiming_init', 'caffe2_xavier_init', 'bias_init_with_prob', 'initialize', 'update_init_info')
_LAYERS = {
    **_from('omnidet.nn', 'ConvModule', 'DepthwiseSeparableConvModule', 'Scale'),
    **_from(_C + 'nn', 'build_conv_layer', 'build_norm_layer', 'build_activation_layer', 'build_upsample_layer',
            'build_padding_layer', 'build_plugin_layer', 'is_norm'),
    **_from('torch.nn', 'Conv2d', 'Conv3d', 'ConvTranspose2d', 'ConvTranspose3d', 'Linear', 'MaxPool2d', 'MaxPool3d',
            HSwish='Hardswish'),
    **_from('omnidet.nn.layers', 'HSigmoid', Swish='SiLU'),
    **_from('omnidet.nn.drop', 'DropPath'),
    **_from('omnidet.nn.non_local', 'NonLocal2d'),
    **_from('omnidet.nn.context_block', 'ContextBlock'),
    **_from('omnidet.inference.fuse', 'fuse_conv_bn'),
}
_TRANSFORMER = {**_from(_C + 'nn', 'MultiheadAttention', 'build_dropout'), **_from('omnidet.nn.ffn', 'FFN')}
_FILES = _from(_C + 'files', 'load', 'dump', 'list_from_file', 'get', 'get_text', 'get_local_path', 'exists', 'isfile',
               'isdir', 'join_path')
_UTILS = {
    **_from(_C + 'helpers', 'is_str', 'is_seq_of', 'is_list_of', 'is_tuple_of', 'to_1tuple', 'to_2tuple', 'to_3tuple',
            'to_4tuple', 'to_ntuple', 'digit_version', 'import_modules_from_strings', 'track_iter_progress',
            'deprecated_api_warning', 'print_log', 'get_logger', 'TORCH_VERSION', 'IS_CUDA_AVAILABLE'),
    **_from(_C + 'files', 'mkdir_or_exist', 'scandir', 'check_file_exist'),
    **_from(_C + 'registries', 'Registry'), **_from(_C + 'apis', 'build_from_cfg'),
    **_from(_C + 'config', 'Config', 'ConfigDict', 'DictAction'),
}
_IMAGES = _from(_C + 'images', 'imread', 'imfrombytes', 'imwrite', 'imresize', 'rescale_size', 'imrescale', 'imflip',
                'imnormalize', 'impad', 'impad_to_multiple', 'imrotate', 'imcrop', 'bgr2rgb', 'rgb2bgr', 'bgr2hsv',
                'hsv2bgr', 'bgr2gray', 'gray2bgr')
_DIST = _from(_C + 'helpers', 'get_rank', 'get_world_size', 'get_dist_info', 'is_main_process', 'is_distributed',
              'master_only', 'all_reduce')
_BOXES = _from(_C + 'boxes', 'bbox_overlaps', 'bbox2roi', 'bbox2result', 'distance2bbox', 'bbox2distance',
               'bbox_xyxy_to_cxcywh', 'bbox_cxcywh_to_xyxy', 'HorizontalBoxes', 'get_box_tensor', 'get_box_wh',
               'autocast_box_type', 'get_box_type', BaseBoxes='HorizontalBoxes')
_MASKS = _from('omnidet.data.masks', 'BitmapMasks', 'PolygonMasks')
_HEAD_HELPERS = {
    **_from(_C + 'helpers', 'multi_apply', 'unmap', 'images_to_levels', 'select_single_mlvl', 'filter_scores_and_topk',
            'sigmoid_geometric_mean', 'interpolate_as', 'make_divisible'),
    **_from(_C + 'ops', 'gaussian_radius', 'multiclass_nms'),
    **_from('omnidet.ops.relative_boxes', 'inverse_sigmoid'),
    **_from('omnidet.ops.distributed', 'reduce_mean'),
}
_BLOCKS = {
    **_from('omnidet.nn.resnet_layers', 'BasicBlock', 'Bottleneck', ResLayer='make_res_layer'),
    **_from('omnidet.nn.csp', 'CSPLayer', 'ChannelAttention', 'SPPBottleneck'),
    **_from('omnidet.nn.positional_encoding', 'SinePositionalEncoding', 'LearnedPositionalEncoding'),
    **_from('omnidet.nn.ffn', 'MLP'),
}
_STRUCTURES = _from(_C + 'structures', 'DetDataSample', 'SampleList', 'OptSampleList')
_ELEMENTS = _from(_C + 'structures', 'BaseDataElement', 'InstanceData', 'PixelData')
_TYPES = {
    **_from(_C + 'helpers', 'ConfigType', 'OptConfigType', 'MultiConfig', 'OptMultiConfig', 'RangeType',
            'register_all_modules', 'get_root_logger', 'print_log'),
    **_from(_C + 'structures', 'InstanceList', 'OptInstanceList', 'PixelList', 'OptPixelList', 'SampleList',
            'OptSampleList'),
    **_from('omnidet.ops.distributed', 'reduce_mean'),
}
_CHECKPOINTS = _from(_C + 'apis', 'load_checkpoint', 'load_state_dict', 'save_checkpoint', _load_checkpoint='load_only')
_APIS = {**_from(_C + 'apis', 'init_detector', 'inference_detector', 'show_result_pyplot'),
         **_from(_C + 'helpers', 'set_random_seed', 'get_root_logger')}
_PRECISION = _from(_C + 'nn', 'force_fp32', 'auto_fp16')
_DATASETS_ = {
    **_from(_C + 'datasets', 'BaseDetDataset', 'CustomDataset', BaseDataset='BaseDetDataset'),
    **_from('omnidet.data.datasets', 'CocoDataset', 'VOCDataset', 'XMLDataset', 'CityscapesDataset', 'ConcatDataset',
            'RepeatDataset', 'ClassBalancedDataset'),
    **_from('omnidet.data', 'build_dataset'),
}
_TRANSFORM_BASES = _from('omnidet.data.transforms', 'BaseTransform', 'Compose')
_DETECTOR_BASES = _from(_C + 'detectors', 'SingleStageDetector', 'TwoStageDetector')
_LOSS_HELPERS = _from(_C + 'losses', 'weighted_loss', 'weight_reduce_loss', 'reduce_loss', 'accuracy',
                      py_sigmoid_focal_loss='sigmoid_focal_loss')
_OPS = {
    **_from(_C + 'ops', 'nms', 'batched_nms', 'soft_nms', 'CornerPool', 'DeformConv2d', 'ModulatedDeformConv2d',
            'deform_conv2d', 'modulated_deform_conv2d', 'multi_scale_deformable_attn_pytorch', 'point_sample',
            'SigmoidFocalLoss'),
    **_from('omnidet.nn.deform_conv', 'DeformConv2dPack', 'ModulatedDeformConv2dPack'),
    **_from('omnidet.nn.roi_layers', 'RoIAlign', 'RoIPool', 'DeformRoIPoolPack', 'ModulatedDeformRoIPoolPack'),
    **_from('omnidet.ops.roi_align', 'roi_align'), **_from('torchvision.ops', 'roi_pool'),
    **_from(_C + 'nn', 'MultiScaleDeformableAttention'), **_from(_C + 'losses', 'sigmoid_focal_loss'),
}
_KINDS = {**_MODELS, **_TASKS, **_RUN_KINDS, **_LAYER_KINDS}

TABLE: dict[str, dict[str, str]] = {
    'mmdet': {},
    'mmdet.registry': _KINDS,
    'mmdet.models': {**_MODELS, **_BUILDERS, **_DETECTOR_BASES, **_LOSS_HELPERS,
                     **_from(_C + 'apis', 'build_detector')},
    'mmdet.models.builder': {**_MODELS, **_BUILDERS, **_from(_C + 'apis', 'build_detector')},
    'mmdet.models.backbones': _BLOCKS,
    'mmdet.models.necks': {},
    'mmdet.models.dense_heads': {},
    'mmdet.models.roi_heads': {},
    'mmdet.models.seg_heads': {},
    'mmdet.models.detectors': _DETECTOR_BASES,
    'mmdet.models.data_preprocessors': {},
    'mmdet.models.losses': _LOSS_HELPERS,
    'mmdet.models.layers': {**_BLOCKS, **_from(_C + 'ops', 'multiclass_nms')},
    'mmdet.models.utils': {**_HEAD_HELPERS, **_BLOCKS, **_from(_C + 'registries', 'build_positional_encoding')},
    'mmdet.models.task_modules': {**_TASKS, **_TASK_BUILDERS, **_BOXES},
    'mmdet.core': {**_TASKS, **_TASK_BUILDERS, **_HEAD_HELPERS, **_BOXES, **_MASKS, **_PRECISION},
    'mmdet.core.hook': _from('omnidet.registry', 'HOOKS'),
    'mmdet.structures': _STRUCTURES,
    'mmdet.structures.bbox': _BOXES,
    'mmdet.structures.mask': _MASKS,
    'mmdet.datasets': {**_DATASETS_, **_from('omnidet.registry', 'DATASETS', 'TRANSFORMS', PIPELINES='TRANSFORMS')},
    'mmdet.datasets.builder': {**_from('omnidet.registry', 'DATASETS', PIPELINES='TRANSFORMS'),
                               **_from('omnidet.data', 'build_dataset')},
    'mmdet.datasets.transforms': _TRANSFORM_BASES,
    'mmdet.datasets.pipelines': _TRANSFORM_BASES,
    'mmdet.evaluation': _from(_C + 'helpers', 'INSTANCE_OFFSET'),
    'mmdet.engine': {},
    'mmdet.engine.hooks': _from(_C + 'hooks', 'Hook'),
    'mmdet.apis': _APIS,
    'mmdet.utils': _TYPES,
    'mmdet.visualization': {},
    'mmengine': {**_UTILS, **_FILES},
    'mmengine.registry': {**_KINDS, **_from(_C + 'registries', 'Registry'), **_from(_C + 'apis', 'build_from_cfg')},
    'mmengine.model': {**_BASES, **_INIT, **_from(_C + 'helpers', is_model_wrapper='is_module_wrapper')},
    'mmengine.config': _from(_C + 'config', 'Config', 'ConfigDict', 'DictAction'),
    'mmengine.structures': _ELEMENTS,
    'mmengine.dataset': {**_from(_C + 'datasets', BaseDataset='BaseDetDataset'),
                         **_from('omnidet.data.transforms', 'Compose')},
    'mmengine.evaluator': _from(_C + 'metrics', 'BaseMetric'),
    'mmengine.hooks': _from(_C + 'hooks', 'Hook'),
    'mmengine.runner': {**_CHECKPOINTS, **_from(_C + 'hooks', get_priority='priority'),
                        **_from(_C + 'helpers', 'set_random_seed')},
    'mmengine.logging': _from(_C + 'helpers', 'MMLogger', 'print_log'),
    'mmengine.dist': _DIST,
    'mmengine.device': _from(_C + 'helpers', 'get_device'),
    'mmengine.fileio': _FILES,
    'mmengine.utils': _UTILS,
    'mmengine.optim': {},
    'mmengine.visualization': {},
    'mmcv': {**_UTILS, **_FILES, **_IMAGES},
    'mmcv.cnn': {**_LAYERS, **_INIT, **_TRANSFORMER, **_MODELS, **_LAYER_KINDS},
    'mmcv.ops': _OPS,
    'mmcv.image': _IMAGES,
    'mmcv.transforms': _TRANSFORM_BASES,
    'mmcv.runner': {**_BASES, **_PRECISION, **_CHECKPOINTS, **_DIST, **_from(_C + 'hooks', Hook='OldHook'),
                    **_from('omnidet.registry', 'HOOKS', 'OPTIMIZERS'), **_from(_C + 'helpers', 'set_random_seed')},
    'mmcv.utils': {**_UTILS, **_from(_C + 'helpers', 'is_module_wrapper')},
    'mmcv.parallel': _from(_C + 'helpers', 'is_module_wrapper'),
    'mmcv.fileio': _FILES,
    'mmcls': {}, 'mmcls.models': {**_MODELS, **_BUILDERS}, 'mmcls.registry': _KINDS,
    'mmpretrain': {}, 'mmpretrain.models': {**_MODELS, **_BUILDERS}, 'mmpretrain.registry': _KINDS,
}

OWN_FILES = frozenset((
    'builder', 'registry', 'base', 'utils', 'misc', 'multi_apply', 'losses', 'transforms', 'compose', 'wrappers',
    # necks and backbones
    'fpn', 'fpn_carafe', 'bfp', 'pafpn', 'hrfpn', 'nas_fpn', 'nasfcos_fpn', 'rfp', 'yolo_neck', 'yolox_pafpn',
    'channel_mapper', 'cspnext_pafpn', 'ct_resnet_neck', 'dilated_encoder', 'dyhead', 'fpg', 'ssd_neck', 'ssh',
    'resnet', 'resnext', 'resnest', 'res2net', 'regnet', 'hrnet', 'hourglass', 'darknet', 'csp_darknet', 'cspnext',
    'detectors_resnet', 'detectors_resnext', 'efficientnet', 'mobilenet_v2', 'pvt', 'ssd_vgg', 'swin',
    'trident_resnet',
    # heads, detectors, losses
    'anchor_head', 'anchor_free_head', 'base_dense_head', 'retina_head', 'atss_head', 'fcos_head', 'gfl_head',
    'rpn_head', 'yolox_head', 'rtmdet_head', 'detr_head', 'deformable_detr_head', 'single_stage', 'two_stage',
    'focal_loss', 'iou_loss', 'smooth_l1_loss', 'cross_entropy_loss',
    # data
    'coco', 'voc', 'custom', 'base_det_dataset', 'loading', 'formatting', 'formating'))
"""Modules of MMDetection itself: in a clone on the path they are not read, as a file of the user's there would be."""

# --------------------------------------------------------------------------------------- without a counterpart

_HEAD = ('its heads are built in another way (docs/architecture.md, "A grid head" and "A query head"): a head of your '
         'own derives from omnidet.models.dense_heads.grid.driver.DenseHead or stands by itself')
_ROI = ('second stages are built in another way (docs/architecture.md, "A RoI head"); what changes there is mostly the '
        'box head, the mask head or the extractor alone')
_DETECTOR = ('a detector of your own derives from omnidet.models.detectors.base.BaseDetector and has loss(images, '
             'targets) and predict(images, metas, rescale): see docs/architecture.md, "What a model is"')
_PART = ('assigners, samplers and coders are called for a whole batch here (docs/architecture.md, "A grid head"): an '
         'assigner is any object called as assigner(priors, targets, inside, preds)')
_RUNNER = 'the training is omnidet.engine.train(cfg, work_dir), or `omnidet train CONFIG`'
_DRAW = 'pictures are drawn by omnidet.visualization.draw, `omnidet predict` and `omnidet test --show-dir`'

INSTEAD: dict[str, str] = {
    **dict.fromkeys(('AnchorHead', 'AnchorFreeHead', 'BaseDenseHead', 'GuidedAnchorHead', 'BBoxTestMixin',
                     'BaseDenseSeqHead', 'BaseSemanticHead', 'BasePanopticFusionHead', 'BaseMaskHead',
                     'FeatureAdaption'), _HEAD),
    **dict.fromkeys(('BaseRoIHead', 'MaskTestMixin', 'BaseRoIExtractor', 'DoubleHeadRoIHead'), _ROI),
    **dict.fromkeys(('BaseDetector', 'DetectionTransformer', 'BaseModel', 'SemiBaseDetector',
                     'KnowledgeDistillationSingleStageDetector'), _DETECTOR),
    **dict.fromkeys(('BaseAssigner', 'AssignResult', 'BaseSampler', 'SamplingResult', 'BaseBBoxCoder',
                     'bbox_mapping', 'bbox_mapping_back', 'anchor_inside_flags'), _PART),
    **dict.fromkeys(('Runner', 'FlexibleRunner', 'EpochBasedRunner', 'IterBasedRunner', 'BaseRunner', 'build_runner',
                     'build_optimizer', 'build_optim_wrapper', 'train_detector', 'init_dist', 'EpochBasedTrainLoop',
                     'BaseLoop', 'RUNNERS', 'RUNNER_CONSTRUCTORS', 'build_dataloader', 'single_gpu_test',
                     'multi_gpu_test', 'MMDataParallel', 'MMDistributedDataParallel', 'scatter', 'collate',
                     'DataContainer', 'wrap_fp16_model', 'worker_init_fn'), _RUNNER),
    **dict.fromkeys(('DetLocalVisualizer', 'Visualizer', 'VISBACKENDS', 'imshow', 'imshow_bboxes', 'imshow_det_bboxes',
                     'imshow_gt_det_bboxes'), _DRAW),
    **dict.fromkeys(('OptimWrapperConstructor', 'DefaultOptimWrapperConstructor', 'OPTIM_WRAPPER_CONSTRUCTORS',
                     'DefaultOptimizerConstructor', 'OPTIMIZER_BUILDERS'),
                    'groups of parameters are described by paramwise_cfg in optim_wrapper'),
    **dict.fromkeys(('EvalHook', 'DistEvalHook'),
                    'val_evaluator and train_cfg.val_interval say what is measured, when'),
    **dict.fromkeys(('DetInferencer', 'async_inference_detector', 'inference_mot', 'init_track_model'),
                    "use omnidet.Detector('config', 'checkpoint')('image.jpg')"),
    **dict.fromkeys(('MessageHub', 'HistoryBuffer', 'LogProcessor', 'LOG_PROCESSORS'),
                    'the log of a run is work_dirs/NAME/log.jsonl; a hook finds losses in after_train_iter'),
    **dict.fromkeys(('eval_map', 'eval_recalls', 'average_precision', 'Evaluator', 'DumpResults'),
                    'metrics are omnidet.evaluation; CocoMetric and VOCMetric are in configs as before'),
    **dict.fromkeys(('get_model_complexity_info', 'get_complexity_stats'),
                    'torch.utils.flop_counter.FlopCounterMode counts operations'),
    **dict.fromkeys(('FileClient', 'BaseStorageBackend', 'PetrelBackend', 'LmdbBackend'),
                    'files are read from the local disk'),
    **dict.fromkeys(('CARAFE', 'CARAFEPack', 'MaskedConv2d', 'SAConv2d', 'PSAMask', 'Correlation',
                     'nms_rotated', 'box_iou_rotated', 'RoIAlignRotated', 'nms_match'),
                    'this operation exists in compiled form only; write it with torch, or name the model part that '
                    'needs it'),
    'get_classes': 'names of classes are the METAINFO of a data set',
    'ProgressBar': 'use rich.progress.Progress',
    'AvoidCUDAOOM': 'take a smaller batch, or --amp',
}
"""{name: what to use instead}. Such a name can be imported and inherited from; using it says this."""

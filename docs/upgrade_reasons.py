"""Why an upgraded config of MMDetection 2.x differs from its namesake in 3.x: what the zoos themselves differ in."""

from __future__ import annotations

import re
from typing import NamedTuple


class Reason(NamedTuple):
    """Why a difference is none of the upgrade's making.

    Attributes:
        kind: what differs.
        configs: a regular expression that the config's name begins with.
        text: a regular expression that the difference begins with.
        what: the difference in words.
        why: the reason.
    """

    kind: str
    configs: str
    text: str
    what: str
    why: str


CHANGED = 'the 3.x zoo has another value'
NO_TWIN = 'its nearest namesake is the config without mixed precision'
SSD_V1 = 'the 3.x file inherits data and schedule of Faster R-CNN, the 2.x file those of SSD'
V2_FOR_V1 = "the 3.x zoo's file for Objects365 v1 reads v2"
MORE = 'the 2.x zoo reads or scores more than is needed'

REASONS = (
    Reason('model', '.*/fcos_', 'train_cfg: .*, in 3.x nothing$', '`train_cfg` of FCOS',
           'FCOS never read it; the 3.x zoo leaves it out'),
    Reason('model', 'rpn/', 'train_cfg.rpn.allowed_border: 0, in 3.x -1$', '`train_cfg.rpn.allowed_border`', CHANGED),
    Reason('model', 'simple_copy_paste/', 'backbone.init_cfg: Pretrained.*, in 3.x nothing$',
           'the pretrained backbone', 'in the 3.x zoo these train from scratch'),
    Reason('model', 'ld/', 'teacher_config: ', "the name of the teacher's config", 'the 3.x zoo renamed its files'),
    Reason('model', 'cascade_rpn/', r'rpn_head.stages.StageCascadeRPNHead.sampling: ', '`sampling` of a stage',
           'kept; the 3.x zoo has it in one of its files and leaves it to the default in another'),
    Reason('model', 'detr/', r'..coder.layer_cfg.ffn_cfg.(num_fcs|act_cfg): nothing',
           'two layers and ReLU in feed-forward parts, spelled out', 'defaults'),
    Reason('model', 'guided_anchoring/', 'neck.add_extra_convs: True, in 3.x on_input$', '`add_extra_convs=True`',
           "it means 'on_input'"),
    Reason('model', 'panoptic_fpn/', 'semantic_head.seg_rescale_factor: 0.25, in 3.x nothing$',
           '`seg_rescale_factor`, which `SegRescale` was', 'the default of `PanopticFPNHead`'),
    Reason('model', 'objects365/', 'FasterRCNN.*, in 3.x RetinaNet', 'RetinaNet in 1350k iterations',
           "the 2.x file inherits Faster R-CNN's model by mistake: it builds in neither"),

    Reason('preprocessor', 'detectors/|hrnet/|htc/|res2net/|scnet/|fpg/',
           '(batch_augments.BatchFixedSizePad.)?pad_mask: True', 'masks are padded with the images',
           '2.x padded them; windows of masks need none here'),
    Reason('preprocessor', 'simple_copy_paste/', 'batch_augments: nothing',
           'padding to a fixed size with copy and paste', 'the 2.x file pads nothing after it'),
    Reason('preprocessor', 'efficientnet/|ssd/ssdlite', 'pad_size_divisor: ', 'test images padded to squares',
           '2.x padded them to the size of training, 3.x to multiples of 32'),
    Reason('preprocessor', 'faster_rcnn/faster_rcnn_r101_caffe', '(mean|std|bgr_to_rgb)',
           'normalisation of a Caffe backbone', 'the 3.x file forgets it'),

    Reason('optimizer', '', 'loss_scale: ', '`loss_scale` of mixed precision', 'the 3.x zoo leaves it dynamic'),
    Reason('optimizer', 'ssd/|fcos/', 'AmpOptimWrapper', 'mixed precision', NO_TWIN),
    Reason('optimizer', 'legacy_1.x/ssd300', 'optimizer', 'rate and decay', SSD_V1),
    Reason('optimizer', 'mask_rcnn/mask_rcnn_r50_caffe_c4', 'optimizer.lr: 0.01, in 3.x 0.02$', 'the rate', CHANGED),
    Reason('optimizer', 'retinanet/retinanet_r50_fpn_fp16', 'clip_grad: ', 'clipping of gradients', CHANGED),

    Reason('schedule', 'yolox/', 'from iteration', 'the cosine of YOLOX',
           "in 2.x it ends where the last epochs begin; in the 3.x zoo it is given five epochs more (`T_max=285`)"),
    Reason('schedule', 'hrnet/fcos|scratch/|grid_rcnn/|groie/|yolof/|fcos/', 'from iteration 0:',
           'where the warm-up begins', CHANGED),
    Reason('schedule', 'ssd/', 'from iteration 0:', 'the warm-up', NO_TWIN + '; its warm-up is another'),
    Reason('schedule', 'queryinst/|sparse_rcnn/', 'from iteration 1:', 'the length of the warm-up',
           'the 3.x files with several sizes have 500 iterations for 1000'),
    Reason('schedule', 'faster_rcnn/|mask_rcnn/|strong_baselines/', r'from iteration \d+: 0.1, in 3.x 1$',
           'the last steps of long schedules', "the 3.x file's scheduler ends (`end`) before its last milestones"),
    Reason('schedule', 'mask_rcnn/|retinanet/', 'from iteration 2200: 0.1, in 3.x 0.01$',
           'the second step, epoch 23 for 22', CHANGED),
    Reason('schedule', 'panoptic_fpn/', '1200 iterations, in 3.x 3600$', '12 epochs of a data set repeated 3 times',
           'the 3.x zoo counts 36 epochs'),
    Reason('schedule', 'simple_copy_paste/', '90000 iterations', '90k iterations',
           'the 3.x file of that name inherits 270k'),
    Reason('length', 'panoptic_fpn/', 'max_epochs: 12, in 3.x 36$', '12 epochs of a data set repeated 3 times',
           'the 3.x zoo counts 36 epochs'),
    Reason('length', 'simple_copy_paste/', 'max_iters: 90000', '90k iterations',
           'the 3.x file of that name inherits 270k'),
    *(Reason(kind, 'guided_anchoring/ga_fast_', text, what, 'the 3.x file says it in the form of 2.x, unread')
      for kind, text, what in (('preprocessor', '', 'normalisation of a Caffe backbone'),
                               ('optimizer', 'clip_grad', 'clipping of gradients'),
                               ('train data', 'dataset.proposal_file', 'files of proposals'),
                               ('test data', 'dataset.proposal_file', 'files of proposals'),
                               ('train pipeline', '0.LoadProposals', 'how many proposals'),
                               ('test pipeline', '0.LoadProposals', 'how many proposals'))),
    Reason('batch size', 'fcos/.*bs8x8', '', '8 images on a GPU', NO_TWIN + ', with 2 images'),
    Reason('batch size', 'legacy_1.x/ssd300', '', '8 images on a GPU', SSD_V1),
    Reason('batch size', 'wider_face/', '', '60 images on a GPU', CHANGED),

    Reason('train pipeline', 'cascade_rpn/|guided_anchoring/|rpn/|hrnet/', '0.LoadAnnotations.with_label: False',
           'labels are not read for proposals', 'the 3.x zoo reads more than is needed'),
    Reason('train pipeline', 'fpg/', '0.LoadAnnotations.with_mask: True', 'masks are read', MORE),
    Reason('train pipeline', 'centernet/|centripetalnet/|cornernet/|openimages/|wider_face/|yolo/',
           '0.LoadImageFromFile.to_float32: True', 'images in float32 from the start',
           'the transforms that need it see to it'),
    Reason('train pipeline', 'fpg/', '0.RandomCrop.(crop_type|allow_negative_crop)', 'how images are cropped', CHANGED),
    Reason('train pipeline', 'mask_rcnn/|resnest/', '0.LoadAnnotations.poly2mask: False',
           'masks stay polygons', CHANGED),
    Reason('train pipeline', 'queryinst/|sparse_rcnn/', '0.RandomChoiceResize.scales: ', 'sizes as (1333, 480)',
           'the longer side is first in one zoo and last in the other; the resized images are equal'),
    Reason('train pipeline', 'albu_example/', '0: ', 'no flip beside Albumentations', CHANGED),
    Reason('train pipeline', 'cascade_rpn/', '0.LoadProposals', '300 proposals', CHANGED),
    Reason('train pipeline', 'legacy_1.x/ssd300', '0: ', 'the whole pipeline', SSD_V1),
    Reason('train pipeline', 'sabl/', '0.RandomResize.scale', 'sizes from 640', 'the 3.x zoo has 480 under this name'),
    Reason('test pipeline', '', '0.LoadAnnotations.poly2mask: nothing, in 3.x False$', 'masks of the ground truth',
           'they are not read in a test'),
    Reason('test pipeline', 'centernet/|centripetalnet/|cornernet/', '0.PackDetInputs.meta_keys',
           '`scale_factor` among the keys', 'boxes are brought back to the size of the file with it'),
    Reason('test pipeline', 'openimages/', '0.PackDetInputs.meta_keys', '`instances` and the like among the keys',
           'MMDetection 3.x hands them to its metric'),
    Reason('test pipeline', 'fpg/', '0: LoadImageFromFile Resize LoadAnnotations', 'annotations are read', MORE),
    Reason('test pipeline', 'mask2former/', '0.LoadImageFromFile.to_float32: nothing',
           'images in float32 from the start', CHANGED),
    Reason('test pipeline', 'cascade_rpn/', '0.LoadProposals', '300 proposals', CHANGED),
    Reason('test pipeline', 'legacy_1.x/ssd300', '0.Resize', 'the size', SSD_V1),

    Reason('train data', '', r'num_workers: \d', 'worker processes', 'the 3.x zoo has 2 for most'),
    Reason('test data', '', r'num_workers: \d', 'worker processes', 'the 3.x zoo has 2 for most'),
    Reason('train data', '', 'batch_sampler: AspectRatioBatchSampler.., in 3.x nothing$',
           'images of one batch lie or stand alike', '2.x did so always; the 3.x zoo not where all have one size'),
    Reason('train data', 'openimages/', 'batch_sampler: nothing', 'the sampler for balanced classes',
           'the 3.x zoo groups by shape beside it'),
    Reason('train data', 'faster_rcnn/|mask2former/', 'sampler: InfiniteSampler.., in 3.x DefaultSampler',
           'samples without end for a run of iterations', 'the 3.x zoo begins again with each epoch'),
    Reason('train data', 'mask2former/', 'dataset.data_prefix.seg: nothing', 'folder of panoptic maps',
           'the 3.x files for instances inherit it and do not read it'),
    Reason('test data', 'mask2former/', 'dataset.data_prefix.seg: nothing', 'folder of panoptic maps',
           'the 3.x files for instances inherit it and do not read it'),
    Reason('train data', 'pascal_voc/', 'dataset.dataset.datasets.VOCDataset.filter_cfg.bbox_min_size: nothing',
           'small boxes are ignored', CHANGED),
    Reason('train data', 'pascal_voc/.*c4', 'dataset.ignore_keys', 'what joined data sets need not share', CHANGED),
    Reason('train data', 'openimages/', 'dataset.(dataset.)?(meta_file|data_prefix)', 'files and folders',
           'the 3.x zoo expects others'),
    Reason('test data', 'openimages/', 'dataset.(test_mode|data_prefix)', 'files and folders; `test_mode`',
           'the 3.x zoo expects others, and filters nothing'),
    Reason('train data', 'objects365/.*v1', 'dataset', 'the data set', V2_FOR_V1),
    Reason('test data', 'objects365/.*v1', 'dataset', 'the data set', V2_FOR_V1),
    Reason('evaluation', 'objects365/.*v1', '(val|test)_evaluator', 'the data set', V2_FOR_V1),
    Reason('train data', 'panoptic_fpn/', 'dataset: RepeatDataset', 'a data set repeated 3 times', 'see the schedule'),
    Reason('train data', 'deepfashion/', 'dataset: ', 'the data set',
           'the 3.x zoo repeats it, and expects other folders'),
    Reason('test data', 'deepfashion/', 'dataset.ann_file', 'the annotation file', 'the 3.x zoo expects other folders'),
    Reason('evaluation', 'deepfashion/', '(interval|(val|test)_evaluator.ann_file)', 'interval and annotation file',
           'the 3.x zoo has another interval, and expects other folders'),
    Reason('train data', 'faster_rcnn/.*person', 'dataset.metainfo.palette', 'colours of the classes',
           '2.x configs name classes alone; a palette is chosen when drawing'),
    Reason('test data', 'faster_rcnn/.*person', 'dataset.metainfo.palette', 'colours of the classes',
           '2.x configs name classes alone; a palette is chosen when drawing'),
    Reason('train data', 'pascal_voc/.*cocofmt', 'dataset', 'where VOC in COCO format lies',
           'the 3.x zoo expects other folders'),
    Reason('test data', 'pascal_voc/.*cocofmt', 'dataset', 'where VOC in COCO format lies',
           'the 3.x zoo expects other folders'),
    Reason('evaluation', 'pascal_voc/.*cocofmt', '(val|test)_evaluator', 'where VOC in COCO format lies',
           'the 3.x zoo expects other folders'),
    Reason('train data', 'legacy_1.x/ssd300', 'dataset', 'a data set repeated 5 times', SSD_V1),
    Reason('train data', 'wider_face/', '(dataset: |drop_last)', 'the data set', 'the 3.x zoo does not repeat it'),
    Reason('test data', 'wider_face/', 'dataset.data_prefix', 'the slash after a folder', 'it means the same'),
    Reason('test data', 'cityscapes/', 'dataset', 'the data set of the test', "the 3.x zoo tests on the validation's"),
    Reason('evaluation', 'cityscapes/', '(val|test)_evaluator', 'the data set of the test, and its metrics',
           "the 3.x zoo tests on the validation's, and for masks with Cityscapes's own metric too"),

    Reason('evaluation', 'solo', r"(val|test)_evaluator.metric: .'bbox', 'segm'., in 3.x segm$",
           'boxes are scored too', MORE),
    Reason('evaluation', 'cascade_rcnn/|regnet/|common/',
           r"(val|test)_evaluator.metric: .'bbox', 'segm'., in 3.x nothing$",
           'masks are scored too', "the 3.x zoo's base for several sizes and 36 epochs scores boxes alone"),
    Reason('evaluation', 'common/|simple_copy_paste/|seesaw_loss/|yolo/|panoptic_fpn/', 'interval: ',
           'how often', CHANGED),
    Reason('evaluation', 'seesaw_loss/', '(val|test)_evaluator.format_only: nothing, in 3.x False$',
           '`format_only=False`', 'the default'),
    Reason('evaluation', 'wider_face/', '(val|test)_evaluator.eval_mode: area', 'the kind of average',
           '2.x took the area; 3.x eleven points by default'),
)


def reason(kind: str, config: str, text: str) -> Reason | None:
    """Why a config differs so, if that is known."""
    return next((r for r in REASONS if r.kind == kind and re.match(r.configs, config) and re.match(r.text, text)), None)

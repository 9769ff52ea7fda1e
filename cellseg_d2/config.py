"""Every configuration key that cellseg_d2 adds to Detectron2's, one comment each.

The keys under ``MODEL`` carry the names and defaults of the published CenterMask configurations, so that those YAML
files merge without an edit. The keys under ``INPUT``, ``DATASETS``, ``DATALOADER``, ``SOLVER`` and ``TEST`` are ours.
"""

from detectron2.config import CfgNode as CN

__all__ = ["LIVECELL_SIDE", "SEMANTIC_STRETCH", "add_cellseg_config"]

# Percentiles of semantic models where INPUT.STRETCH_PERCENTILES is empty
SEMANTIC_STRETCH = (1.0, 99.8)
# Pixels, short side of LIVECell's images
LIVECELL_SIDE = 520


def add_cellseg_config(cfg: CN) -> None:
    """Add the keys of cellseg_d2 to a config made by ``detectron2.config.get_cfg()``, in place."""
    _add_model_config(cfg.MODEL)
    _add_data_config(cfg)
    _add_input_config(cfg)
    _add_training_config(cfg)


def _add_model_config(model: CN) -> None:
    """The model: weights, VoVNetV2, FCOS, the mask head and its scoring head."""
    # Read weight files that hold more than tensors and arrays; that runs code out of the file
    model.TRUST_WEIGHTS = False
    # Start layers anew whose shape differs in MODEL.WEIGHTS (another number of classes) instead of stopping
    model.REINIT_MISMATCHED = False
    _add_vovnet_config(model)
    _add_fcos_config(model)

    # How a box chooses its feature level: "area" (FPN's rule) or "ratio" (image area over box area)
    model.ROI_MASK_HEAD.ASSIGN_CRITERION = "area"
    model.MASKIOU_ON = False
    model.MASKIOU_LOSS_WEIGHT = 1.0
    model.ROI_MASKIOU_HEAD = CN()
    model.ROI_MASKIOU_HEAD.NAME = "MaskIoUHead"
    model.ROI_MASKIOU_HEAD.CONV_DIM = 256
    model.ROI_MASKIOU_HEAD.NUM_CONV = 4
    _add_semantic_config(model)


def _add_vovnet_config(model: CN) -> None:
    """The backbone."""
    model.VOVNET = CN()
    # One of the seven names of modeling.backbone.vovnet.SPECS
    model.VOVNET.CONV_BODY = "V-39-eSE"
    # Stages that the plain backbone returns; with FPN, MODEL.FPN.IN_FEATURES must be among them
    model.VOVNET.OUT_FEATURES = ["stage2", "stage3", "stage4", "stage5"]
    # FrozenBN, BN, SyncBN, GN or "" (none)
    model.VOVNET.NORM = "FrozenBN"
    # Kept for published files; the widths follow from CONV_BODY
    model.VOVNET.OUT_CHANNELS = 256
    model.VOVNET.BACKBONE_OUT_CHANNELS = 256
    # Deformable 3x3 convolutions in stage2..stage5, plain or modulated, with this many offset groups
    model.VOVNET.STAGE_WITH_DCN = (False, False, False, False)
    model.VOVNET.WITH_MODULATED_DCN = False
    model.VOVNET.DEFORMABLE_GROUPS = 1


def _add_fcos_config(model: CN) -> None:
    """The proposal generator."""
    model.FCOS = CN()
    model.FCOS.NUM_CLASSES = 80
    # Feature maps, one stride each
    model.FCOS.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    model.FCOS.FPN_STRIDES = [8, 16, 32, 64, 128]
    # Probability that a location is foreground at the start of training (sets the bias of the class logits)
    model.FCOS.PRIOR_PROB = 0.01
    # Candidates must exceed this class probability
    model.FCOS.INFERENCE_TH_TRAIN = 0.05
    model.FCOS.INFERENCE_TH_TEST = 0.05
    model.FCOS.NMS_TH = 0.6
    # Candidates a level before NMS, and detections an image after NMS (ties at the cut are kept)
    model.FCOS.PRE_NMS_TOPK_TRAIN = 1000
    model.FCOS.PRE_NMS_TOPK_TEST = 1000
    model.FCOS.POST_NMS_TOPK_TRAIN = 100
    model.FCOS.POST_NMS_TOPK_TEST = 100
    # Levels above p5: 0, 1 (p6) or 2 (p6 and p7)
    model.FCOS.TOP_LEVELS = 2
    # Norm of the towers: GN, BN, SyncBN or "none"; BN needs crops above 128 pixels or several images a process
    model.FCOS.NORM = "GN"
    # One learned factor a level on the box regression
    model.FCOS.USE_SCALE = True
    # Threshold class probability * centerness instead of the class probability alone
    model.FCOS.THRESH_WITH_CTR = False
    # Focal loss
    model.FCOS.LOSS_ALPHA = 0.25
    model.FCOS.LOSS_GAMMA = 2.0
    # Upper ends of the levels' size ranges, in pixels (the last level is open); one fewer than IN_FEATURES
    model.FCOS.SIZES_OF_INTEREST = [64, 128, 256, 512]
    # Kept for published files: box regression always ends in relu
    model.FCOS.USE_RELU = True
    # Deformable last convolution in the towers, of the kind that VOVNET.WITH_MODULATED_DCN says
    model.FCOS.USE_DEFORMABLE = False
    model.FCOS.NUM_CLS_CONVS = 4
    model.FCOS.NUM_BOX_CONVS = 4
    model.FCOS.NUM_SHARE_CONVS = 0
    # Positives lie within POS_RADIUS strides of the box centre; else anywhere in the box
    model.FCOS.CENTER_SAMPLE = True
    model.FCOS.POS_RADIUS = 1.5
    # iou, linear_iou or giou
    model.FCOS.LOC_LOSS_TYPE = "giou"


def _add_semantic_config(model: CN) -> None:
    """Semantic models: GoogLeNet-FCN, the U-Nets, their ensemble, and how probabilities become cells.

    The head takes Detectron2's keys: MODEL.SEM_SEG_HEAD.{NAME, IN_FEATURES, NUM_CLASSES, IGNORE_VALUE, LOSS_WEIGHT};
    NUM_CLASSES is 1 (one foreground logit) or 3 (background, interior, edge). Channels follow from MODEL.PIXEL_MEAN.
    """
    model.GOOGLENET = CN()
    # BN, SyncBN, FrozenBN, GN or "" (none, as published)
    model.GOOGLENET.NORM = "BN"
    # Kernel of the third branch of an inception block: 5 (the paper) or 3 (torchvision, so that its weights load)
    model.GOOGLENET.BRANCH_KERNEL = 5
    # Of conv2, inception3b, inception4e, inception5b
    model.GOOGLENET.OUT_FEATURES = ["inception5b"]
    model.UNET = CN()
    # unet (4 levels), expanded (5: 1024 channels at the bottom) or deep (6: 1024 and 2048)
    model.UNET.VARIANT = "unet"
    # Channels of the first level; each further level has twice as many
    model.UNET.WIDTH = 64
    model.UNET.NORM = "BN"
    model.SEMANTIC = CN()
    # A branch of its own beside CenterMask: backbone "" is none; built by that name, with MODEL.SEM_SEG_HEAD on it
    model.SEMANTIC.BRANCH = ""
    # Weights of the three losses
    model.SEMANTIC.CROSS_ENTROPY = 1.0
    model.SEMANTIC.DICE = 0.0
    model.SEMANTIC.FOCAL = 0.0
    model.SEMANTIC.FOCAL_GAMMA = 2.0
    # Pixels of at least this foreground probability are cells, until TEST.ROC_CHOICE chooses a threshold on data
    model.SEMANTIC.THRESHOLD = 0.5
    # Smaller components are dropped, holes up to this size are filled; pixels
    model.SEMANTIC.MIN_AREA = 0
    model.SEMANTIC.HOLE_AREA = 0
    # How touching cells are parted: none, distance (watershed) or classes (watershed from interiors, NUM_CLASSES 3)
    model.SEMANTIC.SPLIT = "none"
    # "distance": how much narrower, in pixels of radius, the waist between two cells must be
    model.SEMANTIC.SPLIT_DEPTH = 1.0
    # One model a cell type (CellTypeEnsemble): the types, and what an unknown type gets: "error" or "average" of all
    model.ENSEMBLE = CN()
    model.ENSEMBLE.CELL_TYPES = []
    model.ENSEMBLE.UNKNOWN = "error"


def _add_data_config(cfg: CN) -> None:
    """Data sets."""
    # Fills "{cell_type}" in the names of DATASETS.TRAIN and DATASETS.TEST: "livecell_{cell_type}_train"
    cfg.DATASETS.CELL_TYPE = ""
    # Names of the classes, of the data that a model was trained on (set by training)
    cfg.DATASETS.CLASSES = ()
    # Images of LIVECell or own data that are not on disk: leave them out and say how many, instead of stopping
    cfg.DATASETS.ALLOW_MISSING = False
    # Own data: COCO JSON and image folder, registered as custom_train and custom_val
    cfg.DATASETS.CUSTOM = CN()
    cfg.DATASETS.CUSTOM.TRAIN_JSON = ""
    cfg.DATASETS.CUSTOM.TRAIN_IMAGES = ""
    cfg.DATASETS.CUSTOM.VAL_JSON = ""
    cfg.DATASETS.CUSTOM.VAL_IMAGES = ""
    # Few outlined images, registered as mes_train and mes_test: folder of images; label images, binary masks, ImageJ
    # ROI zips (one folder) or a COCO JSON; edge images that part the cells of binary masks; images (names without
    # ending, or numbers from 0) that are mes_test
    cfg.DATASETS.MES = CN()
    cfg.DATASETS.MES.IMAGES = ""
    cfg.DATASETS.MES.MASKS = ""
    cfg.DATASETS.MES.EDGES = ""
    cfg.DATASETS.MES.HOLD_OUT = ()
    # Where cells at the frame may have been left out: width in pixels of the strip in which only outlined cells count
    cfg.DATASETS.MES.MARGIN = 0
    # Leave out (and count) images that cannot be decoded, instead of stopping at the first
    cfg.DATALOADER.SKIP_CORRUPT_IMAGES = False


def _add_input_config(cfg: CN) -> None:
    """Reading, targets and augmentation."""
    # Grey-value percentiles that become 0 and 255 in 8-bit images, e.g. (0.1, 99.9); empty: 8-bit values as they are.
    # Images of more than 8 bits are always stretched, by (0.1, 99.9) where this is empty.
    cfg.INPUT.STRETCH_PERCENTILES = ()
    # Short side, in pixels, of the images that INPUT.MIN_SIZE_TEST is meant for: prediction scales images of any size,
    # and tiles of large ones, by MIN_SIZE_TEST / FRAME_SIDE. Training on own data sets it to its images' median
    cfg.INPUT.FRAME_SIDE = LIVECELL_SIDE
    # CellDatasetMapper (8 bits, outlines) or SemanticMapper (float, class and weight maps; label maps for instances)
    cfg.INPUT.MAPPER = "CellDatasetMapper"
    # SemanticMapper: exponent of the stretched grey values (0 to 1); below 1 lifts dim cells
    cfg.INPUT.GAMMA = 1.0
    # SemanticMapper: loss weight of each pixel, "edge", "unet" (distance to the two nearest cells) or "none"
    cfg.INPUT.WEIGHT_MAP = CN()
    cfg.INPUT.WEIGHT_MAP.KIND = "edge"
    # Weight of the pixels of a border EDGE_WIDTH pixels wide between cells and what is around them; elsewhere 1
    cfg.INPUT.WEIGHT_MAP.EDGE_WEIGHT = 5.0
    cfg.INPUT.WEIGHT_MAP.EDGE_WIDTH = 5
    # U-Net's w0, and its sigma in pixels
    cfg.INPUT.WEIGHT_MAP.UNET_WEIGHT = 10.0
    cfg.INPUT.WEIGHT_MAP.UNET_SIGMA = 5.0
    # SemanticMapper with three classes: pixels of a cell up to this far from its border are class "edge"
    cfg.INPUT.EDGE_CLASS_WIDTH = 3
    # SemanticMapper: look (up to ten times) for a crop of which no class, so neither background, takes a larger share
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0
    # CellDatasetMapper: share (0 to 1) of the crops that contain the centre of a random cell, which favours dense areas
    cfg.INPUT.CROP.FAVOUR_CELLS = 0.0
    # Roll training images circularly by any amount in x and y; turn them by up to +- this angle in degrees
    # (from outside come grey pixels of the image's median, for semantic models a reflection that the loss ignores)
    cfg.INPUT.RANDOM_ROLL = False
    cfg.INPUT.RANDOM_ROTATION = 0.0
    # Turn training images by a random multiple of 90 degrees
    cfg.INPUT.RANDOM_ROT90 = False
    # Random zoom of training images: lowest and highest factor; (1, 1) is none
    cfg.INPUT.RANDOM_ZOOM = (1.0, 1.0)
    # Random brightness and contrast within 1 +- this value; 0 is none
    cfg.INPUT.INTENSITY_JITTER = 0.0
    # Blur training images by a Gaussian whose sigma is drawn from 0 to this number of pixels; 0 is none
    cfg.INPUT.DEFOCUS_JITTER = 0.0
    # CellDatasetMapper: put more cells of a cell bank (dataset.py bank; empty: none) where training images have room,
    # in this share of them, at most so many for each cell that is there
    cfg.INPUT.EXTENSION = CN()
    cfg.INPUT.EXTENSION.BANK = ""
    cfg.INPUT.EXTENSION.PROBABILITY = 0.5
    cfg.INPUT.EXTENSION.MOST = 1.0


def _add_training_config(cfg: CN) -> None:
    """Optimisation, validation and stopping."""
    # SGD, ADAMW or RMSPROP (SOLVER.MOMENTUM, smoothing SOLVER.RMSPROP_ALPHA)
    cfg.SOLVER.OPTIMIZER = "SGD"
    cfg.SOLVER.RMSPROP_ALPHA = 0.99
    # Evaluate and save an exponential moving average of the weights: its decay (0.99: over 100 iterations); 0: none
    cfg.SOLVER.EMA_DECAY = 0.0
    # Mixed precision (SOLVER.AMP.ENABLED) in bfloat16 or float16 (float16 needs a GPU)
    cfg.SOLVER.AMP.DTYPE = "bfloat16"
    # Newest periodic checkpoints (model_NNNNNNN.pth) that stay on disk, best and final one not counted; 0: all
    cfg.SOLVER.CHECKPOINTS_TO_KEEP = 3
    # Best checkpoint and early stopping watch this metric of the first data set of DATASETS.TEST
    cfg.TEST.BEST_METRIC = "segm/AP"
    # Also compute the training losses on the validation set at each TEST.EVAL_PERIOD
    cfg.TEST.VAL_LOSS = True
    # Stop after this many evaluations without a better TEST.BEST_METRIC; 0: never
    cfg.TEST.EARLY_STOP_PATIENCE = 0
    # Semantic models: the threshold is chosen on this many training images by "youden", "f1" or "fpr=0.01"; 0: never
    cfg.TEST.ROC_IMAGES = 20
    cfg.TEST.ROC_CHOICE = "f1"
    # Write overlays of the first N test images after an evaluation, with the cells of at least this score
    cfg.TEST.OVERLAYS = 0
    cfg.TEST.OVERLAYS_MIN_SCORE = 0.5

"""Turn label images, masks, ImageJ outlines, GeoJSON, LabelMe, VIA or YOLO files into COCO, or COCO into them.

    tools/dataset.py convert --from labels --input masks/ --images images/ --output coco/
    tools/dataset.py convert --to rois --json coco/annotations.json --images images/ --output rois/

--from writes OUTPUT/annotations.json. An annotation file belongs to the image of the same name; endings such as
_mask, _masks, _cp_masks, _seg and _label do not count, and both may lie in one folder. Pages of a stack of images
become single TIFFs in OUTPUT/images; its labels are a stack, too, or a zip of ImageJ outlines, each on its own slice.
Equal labels on several pages stay equal (track ids).

--to writes one file an image (vgg: one project). Pixels of cells that overlap go to the smallest cell in a label
image, and are counted. In polygons, bridges without width lead to holes and (vgg, yolo) to further pieces.

What is lost on the way is counted, and the exit code is 1 then. Files that are there are never replaced by others.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..data.convert import FORMATS, Notes, Request, image_root, pictures, to_coco
from ..data.datasets.coco_json import read_coco
from ..errors import DatasetError, MissingDataError
from ..files import write_json
from .console import console, progress

__all__ = ["add_arguments", "run"]

ANNOTATIONS = "annotations.json"


def add_arguments(parser: ArgumentParser) -> None:
    """What the command line takes."""
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--from", dest="source", choices=FORMATS, help="to COCO")
    way.add_argument("--to", dest="target", choices=FORMATS, help="from COCO")
    parser.add_argument("--input", type=Path, metavar="DIR_OR_FILE", help="annotations, with --from")
    parser.add_argument("--json", type=Path, metavar="FILE", help="COCO data set, with --to")
    images = "image folder; with --from also one image"
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help=images)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    classes = "of cells without one: that of the others, or cell; several: all, in the order of a model's"
    parser.add_argument("--class", dest="classes", nargs="+", default=[], metavar="NAME", help=classes)
    parser.add_argument("--skip-unannotated", action="store_true", help="leave images without annotations out")


def run(args: Namespace) -> int:
    """Convert; 1 where something was lost or left out."""
    unused = {"input": args.target, "json": args.source, "classes": args.target, "skip_unannotated": args.target}
    wrong = [name for name, is_wrong in unused.items() if is_wrong and getattr(args, name)]
    if wrong:
        flag = {"classes": "--class", "skip_unannotated": "--skip-unannotated"}.get(wrong[0], f"--{wrong[0]}")
        raise DatasetError(f"{flag} has no meaning together with {'--to' if args.target else '--from'}")
    if args.source == "labelme" and len(args.classes) == 1:
        raise DatasetError("--class has no meaning together with labelme, whose files name the class of each cell")
    missing = "input" if args.source else "json"
    if getattr(args, missing) is None:
        raise DatasetError(f"--{missing} is missing: what is to be converted?")
    if not args.images.exists():
        raise MissingDataError(f"{args.images}: there is no such image folder")
    notes = Notes()
    line = _from(args, notes) if args.source else _to(args, notes)
    for kind, counts in (("note", notes.remarks), ("warning", notes.warnings)):
        for text, count in counts.items():
            if count:
                console.print(f"{kind}: {count} {text}")
    console.print(line)
    return 1 if any(notes.warnings.values()) else 0


def _from(args: Namespace, notes: Notes) -> str:
    """To COCO; the closing line."""
    target = args.output / ANNOTATIONS
    if target.exists():
        raise DatasetError(f"{target} is there already; remove it or give another --output")
    if not args.input.exists():
        raise MissingDataError(f"{args.input}: there is no such file or folder")
    spec = FORMATS[args.source]
    # One spelling of a folder, so that masks beside images are told from a folder of their own
    category = args.classes[0] if len(args.classes) == 1 else ""
    request = Request(args.input.resolve(), args.images.resolve(), category, args.skip_unannotated)
    sources = spec.sources(request, notes)
    root = image_root(sources, request.image_folder, args.output)
    classes = args.classes if len(args.classes) > 1 else spec.names(request)
    coco = to_coco(progress(sources, "converting"), request.image_folder, root, classes, notes)
    write_json(target, coco)
    pages = sum(source.page is not None for source in sources)
    told = f"; {pages} pages of stacks were written as single images" if pages else ""
    return f"{target}: {len(coco['images'])} images below {root}, {len(coco['annotations'])} cells{told}"


def _to(args: Namespace, notes: Notes) -> str:
    """From COCO; the closing line."""
    coco, spec = read_coco(args.json), FORMATS[args.target]
    count, images = pictures(coco, args.images, notes)
    used = {annotation["category_id"] for annotation in coco.annotations}
    if len(used) > 1 and not spec.holds_classes:
        notes.warnings[f"classes become one: {spec.title} have no class names"] += len(used)
    if not spec.holds_labels:
        notes.warnings[f"cells lose their label: {spec.title} can not hold it"] += sum(
            "label" in a for a in coco.annotations
        )
    written = spec.write(progress(images, "converting", count), args.output, coco.classes, notes)
    return f"{args.output}: {spec.title} of {written} images"

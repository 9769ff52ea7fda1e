"""Files that tools/predict.py wrote, maybe corrected since: which image each is of."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from ...errors import DatasetError
from ...files import read_json
from .records import Request

__all__ = ["image_names", "known_images", "run_folder"]

SUMMARY = "run.json"


def run_folder(request: Request) -> Path | None:
    """The output folder of prediction that the annotations of a request lie in; None where it is none."""
    folder = (request.input.parent if request.input.is_file() else request.input).parent
    return folder if (folder / SUMMARY).is_file() else None


def known_images(request: Request) -> dict[Path, str]:
    """Image -> name of its files, as the run of prediction tells; empty where the annotations are not of one.

    Raises:
        DatasetError: ``run.json`` is damaged.
    """
    folder = run_folder(request)
    if folder is None:
        return {}
    content = read_json(folder / SUMMARY)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        return {}  # of another program
    try:
        return {Path(image["file"]): image["name"] for image in images}
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{folder / SUMMARY}: not the record of a prediction ({type(error).__name__})") from error


def image_names(images: Sequence[Path], offered: Collection[str], known: dict[Path, str]) -> dict[Path, str]:
    """Image -> name of its annotation file without ending.

    It is the image's own. Prediction puts the folder's before it where several images have one name (``plate1_a1``):
    so where there is a file of that name, and either images share theirs or none of the files has the image's own.

    Args:
        offered: names of the annotation files.
        known: of :func:`known_images`; counts first.
    """
    shared = Counter(image.stem.lower() for image in images)
    names = {}
    for image in images:
        longer = f"{image.resolve().parent.name}_{image.stem}"
        is_longer = longer in offered and (shared[image.stem.lower()] > 1 or image.stem not in offered)
        names[image] = known.get(image.resolve(), longer if is_longer else image.stem)
    return names

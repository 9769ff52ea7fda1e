#!/usr/bin/env python
"""Find, count, measure and track the cells of images.

    python tools/predict.py frame.tif --model output/mine --output predictions
    python tools/predict.py plate1/ 'plate2/**/*.tif' --model livecell --output predictions --save coco,rois,csv
    python tools/predict.py film.tif --model output/mine --output tracks --track --pixel-size 0.65 --interval 600
    python tools/predict.py slide.ome.tif --model output/mine --output slide --channel DAPI --resume

DIR then has, for an image NAME.tif, as far as --save says so,

    labels/NAME.tif         0 is background, each cell a number (OME-TIFF, a stack for a stack)
    rois/NAME.zip           ImageJ's outlines
    geojson/NAME.geojson    QuPath's
    overlays/NAME.png       outlines over the image (overlays/NAME/FRAME.png of a stack)
    probabilities/NAME.tif  semantic models: of each pixel that it belongs to a cell, float32
    cells.json              all cells of all images, COCO
    cells.csv, .parquet     a row a cell: place, area, shape, intensity, neighbours
    run.json                versions, model, options, times, notes, failures
    parts/NAME.json         what --resume goes on from
    tracks/                 --track: tracks, lineage, counts and growth curves

and takes the same images again, but no others. Images of one name get their folder's before it (plate1_NAME).
Exit code: 0 all images predicted, 1 images that could not be used (they are listed), 2 a command that cannot be
followed, 130 stopped with Ctrl-C (--resume goes on).
"""

import argparse
import sys

from cellseg_d2.command_line import run_tool
from cellseg_d2.commands import predict, predict_options
from cellseg_d2.engine.launch import USER_ERRORS


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    predict_options.add_arguments(parser)
    args = parser.parse_args()
    missing = [name for name in ("input", "model", "output") if not getattr(args, name)]
    if missing and not args.list_models:
        parser.error(f"{', '.join(missing)}: needed")
    stopped = "stopped; the same command with --resume goes on"
    return run_tool(lambda: predict.run(args), *USER_ERRORS, stopped=stopped)


if __name__ == "__main__":
    sys.exit(main())

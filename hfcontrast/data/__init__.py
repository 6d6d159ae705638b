"""Data: rows from anywhere, crops in workers, photometry on the training device."""

from hfcontrast.data.augment.color import Photometry
from hfcontrast.data.augment.draws import draw_views
from hfcontrast.data.decode import UnreadableImage, decode_image
from hfcontrast.data.evaluation import evaluation_batches
from hfcontrast.data.loader import TrainLoader
from hfcontrast.data.reading import ImageReader, read_bytes
from hfcontrast.data.sources import Rows, available_splits, load_rows

__all__ = [
    "ImageReader",
    "Photometry",
    "Rows",
    "TrainLoader",
    "UnreadableImage",
    "available_splits",
    "decode_image",
    "draw_views",
    "evaluation_batches",
    "load_rows",
    "read_bytes",
]

"""Data: rows from anywhere, crops in workers, color augmentation on the training device."""

from hfcontrast.data.augment.color import ColorAugmentation
from hfcontrast.data.augment.draws import draw_views
from hfcontrast.data.decode import UnreadableImage, decode_image
from hfcontrast.data.evaluation_loader import evaluation_batches
from hfcontrast.data.image_reader import ImageReader, read_bytes
from hfcontrast.data.loader import TrainLoader
from hfcontrast.data.sources import Columns, Rows, Source, available_splits, load_rows
from hfcontrast.data.view_dataset import ViewDataset

__all__ = [
    "ColorAugmentation",
    "Columns",
    "ImageReader",
    "Rows",
    "Source",
    "TrainLoader",
    "UnreadableImage",
    "ViewDataset",
    "available_splits",
    "decode_image",
    "draw_views",
    "evaluation_batches",
    "load_rows",
    "read_bytes",
]

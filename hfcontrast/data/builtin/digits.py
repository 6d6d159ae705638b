"""builtin/digits: 1,797 handwritten digits of 8 x 8 pixels, the scans that scikit-learn carries.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

import io

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage

SPLITS = {"train": 1442, "test": 355}
CONFIGURATIONS = {None: SPLITS}
FEATURES = Features({"image": Image(), "label": ClassLabel(names=[str(digit) for digit in range(10)])})


def load(split: str, configuration: None = None) -> Dataset:
    """The scans of one split, as gray PNG: ``test`` has every fifth of each digit, ``train`` the others."""
    from sklearn.datasets import load_digits  # slow to import

    images, labels = load_digits(return_X_y=True)
    number = (np.cumsum(labels[:, None] == np.arange(10), 0) - 1)[np.arange(len(labels)), labels]  # within its class
    chosen = (number % 5 == 4) == (split == "test")
    scans = np.rint(images[chosen] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)  # 17 levels of gray
    columns = {"image": [{"bytes": png(scan), "path": None} for scan in scans], "label": labels[chosen].tolist()}
    return Dataset.from_dict(columns, features=FEATURES)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PILImage.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()

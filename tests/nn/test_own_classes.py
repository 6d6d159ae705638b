"""Labels with missing ones."""

import torch

from hfcontrast.nn import own_classes


def test_images_without_a_label_share_their_class_with_no_image():
    labels = torch.tensor([5, -1, 0, 5, -1, -1])
    found = own_classes(labels)
    assert found[[0, 2, 3]].tolist() == [5, 0, 5]
    missing = found[[1, 4, 5]].tolist()
    assert len(set(missing)) == 3 and all(label < 0 for label in missing)
    assert labels.tolist() == [5, -1, 0, 5, -1, -1]

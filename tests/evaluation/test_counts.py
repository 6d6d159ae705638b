"""How an evaluation counts its images."""

import torch

from hfcontrast.evaluation.counts import class_count, label_counts, told_counts, told_labels, told_numbers, told_series


def test_images_without_a_label_are_counted_apart():
    counts = label_counts(torch.tensor([0, 1, -1, -4]), torch.tensor([-1, -1, -1, 0, 1]), near_duplicates=2)
    assert counts["test_images"] == 2 and counts["unlabeled_test_images"] == 2
    assert counts["train_images"] == 2 and counts["unlabeled_train_images"] == 1
    told = told_counts(counts)
    assert told.startswith("2 images, by 2 train images; 2 train images left out as near-duplicates")
    assert told.endswith("; 2 test images and 1 train image without a label left out")


def test_one_image_is_one():
    one = {
        "nonfinite_train_images": 1,
        "nonfinite_test_images": 1,
        "unknown_class_test_images": 1,
        "unknown_classes": ["a"],
    }
    assert told_labels(one) == (
        "; 1 train image left out, as its features are not finite; 1 test image has features that are not finite and counts as wrong"
        "; 1 test image counts as wrong, as no train image has its class: a"
    )
    assert (
        told_numbers({"test_images": 1, "of_test_images": 4, "train_images": 1}) == "1 of 4 test images, 1 train image"
    )


def test_test_images_of_one_class_are_said():
    assert class_count(torch.tensor([3, 3, -1])) == 1 and class_count(torch.tensor([0, 1, -1])) == 2
    assert "all test images are of one class" in told_counts({"test_images": 5, "test_classes": 1})
    assert told_labels({"test_images": 5, "test_classes": 2}) == ""


def test_where_none_has_a_label_all_are_evaluated_on():
    counts = label_counts(torch.tensor([-1, -1]), torch.tensor([0]), near_duplicates=0)
    assert counts["test_images"] == 2
    assert told_labels({"test_images": 5}) == ""


def test_what_near_duplicates_are_and_that_few_train_images_say_little():
    assert told_series({"test_images": 3}) is None
    assert told_series({"train_images": 40, "near_duplicates": 0, "test_classes": 3}) is None
    told = told_series({"train_images": 40, "near_duplicates": 2, "test_classes": 3})
    assert told.startswith("Near-duplicates have the pixels") and told.endswith("and flatter.") and "2" not in told
    told = told_series({"train_images": 1, "near_duplicates": 39, "test_classes": 3})
    assert told.endswith("; by the 1 train image that remained, figures say little.")
    assert told_series({"train_images": 2, "test_classes": 3}) == "By 2 train images for 3 classes, figures say little."

"""Labels of a test split under the class numbers of the train split: classes are matched by their names."""

from dataclasses import replace

from hfcontrast.data.label_numbers import LabelNumbers
from hfcontrast.data.rows import Rows


def numbered_as(train: Rows, test: Rows) -> Rows:
    """Test rows whose classes have the numbers of the train rows' classes of those names.

    A class that only the test rows have gets a number that no train row can have: its images count as wrong. Class labels and plain
    numbers are compared as numbers, as names say nothing then.

    Args:
        train: The train rows; their numbers stay as they are, whatever the test rows hold.
        test: The test rows.
    """
    if not (train.labeled and test.labeled):
        return test
    return replace(test, labels=_aligned(train.labels, test.labels))


def shared_classes(train: Rows, test: Rows) -> bool:
    """Whether test rows have a class of the train rows, as far as names say."""
    names = test.labels.by_name()
    known = train.labels.by_name()
    if names is None or train.labels.texts:
        return True
    if known is None:
        return not test.labels.spelled or any(name.isdecimal() for name in names)
    return not known or not names or not known.keys().isdisjoint(names)


def _aligned(train: LabelNumbers, test: LabelNumbers) -> LabelNumbers:
    """The class numbers of test rows, those of train rows given."""
    known = train.by_name()
    plain = not test.texts and test.by_name() is None
    if known is not None:
        as_numbers = plain and train.names is not None and not train.spelled
        same = train.names is not None and train.names == test.names
        return test if as_numbers or same else replace(test, numbers=known, met={})
    if train.texts:
        return test if test.texts else replace(test, numbers={}, met={})
    if test.spelled or test.texts or test.numbers is not None:
        return replace(test, numbers={}, decimal=True, met={})
    return test

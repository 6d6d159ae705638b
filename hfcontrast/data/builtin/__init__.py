"""Built-in data sets: the module ``NAME`` here is the data set ``builtin/NAME``, without being listed anywhere.

Such a module has ``CONFIGURATIONS``, for each configuration (None: the default) the splits and how many rows each has, and
``load(split, configuration)``, which gives one split as a ``datasets.Dataset``.
"""

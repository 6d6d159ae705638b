"""The commands of `hfcontrast`, a file each, and what those that take a model as it is are made of."""

"""The commands of `hfcontrast`, a file each, and the parts of those that take a saved model."""

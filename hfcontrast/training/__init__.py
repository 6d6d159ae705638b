"""The training of a method by a recipe."""

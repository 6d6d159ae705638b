"""Planning: from a folder of images, the machine and the time that there is, to a recipe."""

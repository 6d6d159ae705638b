"""The commands that take a model as it is: judging it, and embedding data with it."""

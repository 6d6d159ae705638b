"""Pictures of what a method does."""

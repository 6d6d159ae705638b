"""The contract of methods: declarations, settings, hooks, steps, loading, and their checks."""

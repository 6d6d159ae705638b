"""What a method is held to, and what the base class does with it: declaration, settings, hooks, steps, loading."""

"""What a run publishes: the encoder, its image processor and its card."""

"""The face renderer and the demo clips made with it, and the training of the demo checkpoints."""

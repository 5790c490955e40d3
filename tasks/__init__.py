"""How each pipeline stage is done: one module per stage, a plain function a test can call."""

"""Where the training set and the model lie in a project."""

from pathlib import Path

TRAIN_DATA = Path("data/train_data.pt")
MODEL, CARD, CURVE = Path("data/model.safetensors"), Path("data/model.json"), Path("data/training.csv")

"""`python -m tests.trained MODEL FOLDER` trains a model of `tests.trained.models` and writes it into the folder."""

import importlib
import sys
from pathlib import Path

importlib.import_module(f"tests.trained.models.{sys.argv[1]}").train(Path(sys.argv[2]))

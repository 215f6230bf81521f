"""`python -m tests.trained FOLDER` trains the model and writes its checkpoint into the folder."""

import sys
from pathlib import Path

from tests.trained.training import train

train(Path(sys.argv[1]))

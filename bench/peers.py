"""What is measured: scripts that each run in a process of their own."""

from __future__ import annotations

__all__ = ["ENGINE_TEXT", "TRANSFORMERS_TEXT"]

# argv: bundle, provider, text
ENGINE_TEXT = """
import runtime
engine = runtime.load(sys.argv[1], provider=sys.argv[2], parts=["text"])
report(engine.text.encode(sys.argv[3])[0])
"""

# argv: checkpoint folder, text. As the model card does it, less the downloaded code: tokenizer and model by
# from_pretrained, then the projected [CLS] embedding.
TRANSFORMERS_TEXT = """
from pathlib import Path
import torch
from transformers import BertTokenizer
from transformers.utils import logging
from export.models import CXRBertModel, bert_config
logging.set_verbosity_error()
logging.disable_progress_bar()
folder = Path(sys.argv[1])
tokenizer = BertTokenizer.from_pretrained(str(folder))
config = bert_config(json.loads((folder / "config.json").read_text()))
model = CXRBertModel.from_pretrained(str(folder), config=config).eval()
inputs = tokenizer([sys.argv[2].rstrip("!?.")], return_tensors="pt")
with torch.inference_mode():
    projected = model.cls_projection(inputs["input_ids"], inputs["attention_mask"])
report(torch.nn.functional.normalize(projected, dim=-1)[0].tolist())
"""

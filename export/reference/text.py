"""The text models as upstream builds them: transformers' classes, and hi-ml-multimodal's for CXR-BERT."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertModel

from export.reference.hi_ml import hi_ml

__all__ = ["SUMMED_LAYERS", "MaskedHead", "TextReference", "bert_config", "pool", "untrained_text"]

# Of GLoRIA, from the last one.
SUMMED_LAYERS = 4
_CONFIG_KEYS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
)


def bert_config(config: Mapping[str, Any]) -> BertConfig:
    """transformers' configuration from the fields of a config.json that shape the network.

    Attention is computed step by step ("eager"), as the papers' models were.
    """
    chosen = {key: config[key] for key in _CONFIG_KEYS if key in config}
    if "projection_size" not in config:
        return BertConfig(**chosen, attn_implementation="eager")
    with_projection: BertConfig = hi_ml("text.model").CXRBertConfig(
        config["projection_size"], **chosen, attn_implementation="eager"
    )
    return with_projection


def untrained_text(config: Mapping[str, Any], projection: str = "cxr-bert", masked_words: bool = True) -> nn.Module:
    """Upstream's model, with weights that mean nothing.

    Args:
        config: the parsed config.json.
        projection: "cxr-bert" for `CXRBertModel`; else transformers' own classes.
        masked_words: whether there is a head that scores words at masks; CXR-BERT always has one.

    Raises:
        MissingExtraError: CXR-BERT without hi-ml-multimodal.
    """
    if projection == "cxr-bert":
        upstream: nn.Module = hi_ml("text.model").CXRBertModel(bert_config(config))
        return upstream
    plain = bert_config({key: value for key, value in config.items() if key != "projection_size"})
    return BertForMaskedLM(plain) if masked_words else BertModel(plain, add_pooling_layer=False)


def pool(hidden: torch.Tensor, attention_mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """One vector per text: float (batch, sequence, D) → (batch, D); see `TextPart.pooling`."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "max":
        return hidden.masked_fill(attention_mask[..., None] == 0, -torch.inf).amax(1)
    weights = attention_mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


@dataclass(frozen=True)
class MaskedHead:
    """The layers of a head that scores words: GELU follows `dense`, then `norm`, then `decoder`."""

    dense: nn.Linear
    norm: nn.LayerNorm
    decoder: nn.Linear


class TextReference(nn.Module):
    """A text model of upstream's, with how an embedding is made of it.

    Attributes:
        model: upstream's, in evaluation mode.
        encoder: its embeddings and layers.
        pooling: see `TextPart.pooling`.
        projection: what follows the pooled state.
        size: length of an embedding.
        longest: most tokens of a text.
        vocab_size: token ids are below it.
    """

    architecture = "bert"

    def __init__(
        self,
        model: nn.Module,
        pooling: str = "cls",
        dense: nn.Module | None = None,
        longest: int | None = None,
        *,
        whole: Callable[[torch.Tensor], torch.Tensor] | None = None,
        package: str | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            model: upstream's; see `untrained_text`.
            pooling: "cls", "mean", "max" or "layers".
            dense: what follows the pooled state, its last map a linear one; CXR-BERT's own head is taken by itself.
            longest: most tokens of a text, if it is fewer than the model has positions for.
            whole: upstream's own way from padded token ids to embeddings; None puts the parts together.
            package: whose model it is.
        """
        super().__init__()
        self.model = model.eval()
        config: Any = model.config
        self.encoder: Any = getattr(model, "bert", model)
        self.pooling = pooling
        self.projection: nn.Module = getattr(model, "cls_projection_head", None) or dense or nn.Identity()
        sized = config.projection_size if hasattr(model, "cls_projection_head") else config.hidden_size
        linear = [each for each in self.projection.modules() if isinstance(each, nn.Linear)]
        self.size = int(linear[-1].out_features if dense is not None and linear else sized)
        self.longest = min(longest or config.max_position_embeddings, int(config.max_position_embeddings))
        self.vocab_size, self.hidden_size = int(config.vocab_size), int(config.hidden_size)
        self.heads = int(config.num_attention_heads)
        self._pad_token_id = int(config.pad_token_id or 0)
        self._whole = whole
        self._package = package or ("hi-ml-multimodal" if hasattr(model, "cls_projection_head") else "transformers")

    @property
    def name(self) -> str:
        """The reference in words."""
        return f"PyTorch fp32 ({self._package})"

    @property
    def masked_head(self) -> MaskedHead | None:
        """The head that scores words at masks, if there is one."""
        head: Any = getattr(self.model, "cls", None)
        if head is None:
            return None
        transform = head.predictions.transform
        return MaskedHead(transform.dense, transform.LayerNorm, head.predictions.decoder)

    def embed(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Embeddings of texts, not normalized.

        Args:
            input_ids: int64 (batch, sequence).
            attention_mask: int64 (batch, sequence), 1 for tokens, 0 for padding.

        Returns:
            float32 (batch, D).
        """
        with torch.no_grad():
            if self._whole is not None:
                return self._whole(torch.where(attention_mask > 0, input_ids, self._pad_token_id))
            if hasattr(self.model, "get_projected_text_embeddings") and self.pooling == "cls":
                found: torch.Tensor = self.model.get_projected_text_embeddings(
                    input_ids, attention_mask, normalize_embeddings=False
                )
                return found
            if self.pooling == "layers":
                return self._summed_layers(input_ids, attention_mask)
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            projected: torch.Tensor = self.projection(pool(hidden, attention_mask, self.pooling))
        return projected

    def token_states(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The last four layers' states, added up: float32 (batch, sequence, D)."""
        with torch.no_grad():
            return self._last_layers(input_ids, attention_mask).sum(dim=1)

    def _last_layers(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        found = self.encoder(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        return torch.stack(found.hidden_states[-SUMMED_LAYERS:], dim=1)

    def _summed_layers(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The mean over all positions a text could have, those beyond its end being 0, of each of the last layers."""
        states = self._last_layers(input_ids, attention_mask)
        padding = self.longest - input_ids.shape[1]
        padded = F.pad(states * attention_mask[:, None, :, None], (0, 0, 0, padding))
        return padded.mean(dim=2).sum(dim=1)

    def logits(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Scores of the vocabulary at every token: float32 (batch, sequence, vocabulary)."""
        with torch.no_grad():
            found: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return found

"""GLoRIA's own code, from which all that needs its configuration or data is left out: what exports are compared with.

Source: github.com/marshuang80/gloria, commit 416466a: `gloria/models/text_model.py`, `vision_model.py`,
`gloria_model.py`, and `gloria/loss/gloria_loss.py` (Apache-2.0). Written against its lines, in its order.
"""

from __future__ import annotations

import torch
from torch import nn
from torchvision import models as models_2d


class BertEncoder(nn.Module):
    """`last_n_layers` 4, `aggregate_method` "sum", `agg_tokens` true, `norm` false."""

    def __init__(self, model: nn.Module, vocabulary: dict[str, int]) -> None:
        super().__init__()
        self.model = model
        self.idxtoword = {v: k for k, v in vocabulary.items()}
        self.last_n_layers = 4

    def aggregate_tokens(self, embeddings: torch.Tensor, caption_ids: torch.Tensor):
        _, num_layers, num_words, dim = embeddings.shape
        embeddings = embeddings.permute(0, 2, 1, 3)
        agg_embs_batch = []
        sentences = []
        for embs, caption_id in zip(embeddings, caption_ids, strict=True):
            agg_embs = []
            token_bank: list[torch.Tensor] = []
            words = []
            word_bank: list[str] = []
            for word_emb, word_id in zip(embs, caption_id, strict=True):
                word = self.idxtoword[word_id.item()]
                if word == "[SEP]":
                    agg_embs.append(torch.stack(token_bank).sum(axis=0))
                    words.append("".join(word_bank))
                    agg_embs.append(word_emb)
                    words.append(word)
                    break
                if not word.startswith("##"):
                    if len(word_bank) == 0:
                        token_bank.append(word_emb)
                        word_bank.append(word)
                    else:
                        agg_embs.append(torch.stack(token_bank).sum(axis=0))
                        words.append("".join(word_bank))
                        token_bank = [word_emb]
                        word_bank = [word]
                else:
                    token_bank.append(word_emb)
                    word_bank.append(word[2:])
            stacked = torch.stack(agg_embs)
            padding_size = num_words - len(stacked)
            paddings = torch.zeros(padding_size, num_layers, dim)
            words = words + ["[PAD]"] * padding_size
            agg_embs_batch.append(torch.cat([stacked, paddings]))
            sentences.append(words)
        return torch.stack(agg_embs_batch).permute(0, 2, 1, 3), sentences

    def forward(self, ids: torch.Tensor, attn_mask: torch.Tensor, token_type: torch.Tensor):
        """(batch, 97) each → words (batch, D, 97), texts (batch, D), words of each text."""
        outputs = self.model(ids, attn_mask, token_type, output_hidden_states=True)
        all_embeddings = outputs.hidden_states
        embeddings = torch.stack(all_embeddings[-self.last_n_layers :]).permute(1, 0, 2, 3)
        embeddings, sents = self.aggregate_tokens(embeddings, ids)
        sent_embeddings = embeddings.mean(axis=2)
        word_embeddings = embeddings.sum(axis=1)
        sent_embeddings = sent_embeddings.sum(axis=1)
        return word_embeddings.permute(0, 2, 1), sent_embeddings, sents


class ImageEncoder(nn.Module):
    def __init__(self, output_dim: int = 768, blocks: tuple[int, ...] = (3, 4, 6, 3)) -> None:
        super().__init__()
        self.model = models_2d.resnet.ResNet(models_2d.resnet.Bottleneck, list(blocks))
        feature_dims = self.model.fc.in_features
        self.model.fc = nn.Identity()
        self.global_embedder = nn.Linear(feature_dims, output_dim)
        self.local_embedder = nn.Conv2d(1024, output_dim, kernel_size=1, stride=1, padding=0, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(output_size=(1, 1))

    def forward(self, x: torch.Tensor):
        """(batch, 3, 224, 224) → global (batch, D), local (batch, D, 19, 19)."""
        x = nn.Upsample(size=(299, 299), mode="bilinear", align_corners=True)(x)
        x = self.model.conv1(x)
        x = self.model.bn1(x)
        x = self.model.relu(x)
        x = self.model.maxpool(x)
        x = self.model.layer1(x)
        x = self.model.layer2(x)
        x = self.model.layer3(x)
        local_features = x
        x = self.model.layer4(x)
        x = self.pool(x)
        x = x.view(x.size(0), -1)
        return self.global_embedder(x), self.local_embedder(local_features)


def cosine_similarity(x1: torch.Tensor, x2: torch.Tensor, dim: int = 1, eps: float = 1e-8) -> torch.Tensor:
    w12 = torch.sum(x1 * x2, dim)
    w1 = torch.norm(x1, 2, dim)
    w2 = torch.norm(x2, 2, dim)
    return (w12 / (w1 * w2).clamp(min=eps)).squeeze()


def attention_fn(query: torch.Tensor, context: torch.Tensor, temp1: float):
    """batch × ndf × queryL, batch × ndf × ih × iw → batch × ndf × queryL, batch × queryL × ih × iw."""
    batch_size, query_l = query.size(0), query.size(2)
    ih, iw = context.size(2), context.size(3)
    source_l = ih * iw
    context = context.view(batch_size, -1, source_l)
    context_t = torch.transpose(context, 1, 2).contiguous()
    attn = torch.bmm(context_t, query)
    attn = attn.view(batch_size * source_l, query_l)
    attn = nn.Softmax(dim=-1)(attn)
    attn = attn.view(batch_size, source_l, query_l)
    attn = torch.transpose(attn, 1, 2).contiguous()
    attn = attn.view(batch_size * query_l, source_l)
    attn = attn * temp1
    attn = nn.Softmax(dim=-1)(attn)
    attn = attn.view(batch_size, query_l, source_l)
    attn_t = torch.transpose(attn, 1, 2).contiguous()
    return torch.bmm(context, attn_t), attn.view(batch_size, -1, ih, iw)


def attention_maps(img_emb_l: torch.Tensor, text_emb_l: torch.Tensor, sents: list[list[str]]) -> list[torch.Tensor]:
    """`get_attn_maps`: of text i in image i, words × ih × iw, [CLS] first."""
    cap_lens = [len([w for w in sent if not w.startswith("[")]) + 1 for sent in sents]
    found = []
    for i in range(text_emb_l.shape[0]):
        word = text_emb_l[i, :, : cap_lens[i]].unsqueeze(0).contiguous().repeat(img_emb_l.shape[0], 1, 1)
        _, attn = attention_fn(word, img_emb_l, 4.0)
        found.append(attn[i])
    return found


def get_local_similarities(img_emb_l: torch.Tensor, text_emb_l: torch.Tensor, cap_lens: list[int]) -> torch.Tensor:
    """images × texts; `cap_lens` are the characters of the texts, as `process_text` counts them."""
    batch_size = img_emb_l.shape[0]
    similarities = []
    for i in range(len(text_emb_l)):
        words_num = cap_lens[i]
        word = text_emb_l[i, :, 1 : words_num + 1].unsqueeze(0).contiguous()
        word = word.repeat(batch_size, 1, 1)
        wei_context, _ = attention_fn(word, img_emb_l, 4.0)
        word = word.transpose(1, 2).contiguous()
        wei_context = wei_context.transpose(1, 2).contiguous()
        word = word.view(batch_size * words_num, -1)
        wei_context = wei_context.view(batch_size * words_num, -1)
        row_sim = cosine_similarity(word, wei_context)
        row_sim = row_sim.view(batch_size, words_num)
        row_sim.mul_(5.0).exp_()
        row_sim, _ = torch.max(row_sim, dim=1, keepdim=True)
        similarities.append(torch.log(row_sim))
    return torch.cat(similarities, 1)

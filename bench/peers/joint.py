"""One image against prompts, put together from what a peer does with texts and with images."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.peers.contract import Case, Open, Prepare, Run, Spec, relative_cosines

__all__ = ["joint"]


def joint(open_texts: Open, open_images: Open) -> Open:
    """The image embedded once, all prompts in one go, then the softmax of each pair of cosines, or of all labels'."""

    def start(spec: Spec) -> Prepare:
        texts, images = open_texts(spec), open_images(spec)

        def prepare(case: Case) -> Run:
            embed_texts = texts({"texts": [prompt for _, *pair in case["prompts"] for prompt in pair]})
            embed_image = images({"images": [case["image"]]})

            def run() -> Any:
                cosines = embed_texts() @ embed_image()[0]
                if "scale" in case:
                    powers = np.exp(case["scale"] * (cosines - cosines.max()))
                    return relative_cosines((powers / powers.sum())[None], case["scale"])
                cosines = cosines.reshape(-1, 2)
                return 1 / (1 + np.exp(cosines[:, 1] - cosines[:, 0]))[None]

            return run

        return prepare

    return start

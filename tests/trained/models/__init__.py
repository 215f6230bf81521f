"""Small models with trained weights: the oracles for reduced precision.

The embeddings of random weights mean nothing, so they cannot show what fp16 or int8 costs. Each module trains one of
them with a seed, on the captions of `tests.trained.wordings` and the radiographs of `tests.trained.cases`, and writes
its checkpoint in the hub's layout.
"""

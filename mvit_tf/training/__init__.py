"""Training and evaluation of an experiment: the modes of `train.py`, and what these are made of.

Imports run one way: `experiments` <- `storage` <- `distributed` <- `optimization` <- `evaluation`,
which `loop` and `probing` use, and `trainer` all of them.
"""

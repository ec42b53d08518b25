"""In how many bits the weights of a model are kept."""

from __future__ import annotations

from enum import StrEnum


class Quantization(StrEnum):
    """What wide layers keep their weights as. They are widened for each product, so it saves memory, not time."""

    NONE = "none"  # in the precision that the model computes in
    FLOAT8 = "float8"  # e4m3, and a scale for each row
    INT8 = "int8"  # integers, and a scale for each row
    NF4 = "nf4"  # sixteen levels of a normal distribution, and a scale for each 64 weights

"""The number formats a graph can be computed in: one enumeration for every engine and every file.

Names only; which engine can do which is the engine's business.
"""

from enum import StrEnum


class Precision(StrEnum):
    """What a graph's heavy layers compute in; in the order of how exact results are."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8_BLOCK = "int8-block"
    INT8 = "int8"
    FP8 = "fp8"
    INT4_BLOCK = "int4-block"


BLOCKS = frozenset({Precision.INT8_BLOCK, Precision.INT4_BLOCK})
"""Weights of products as whole numbers with a scale and a zero per block. Made by the exporter
alone, for memory: values in between stay float32."""

FROM_FILES = frozenset({*BLOCKS, Precision.INT8, Precision.FP8})
"""Precisions that need a file of their own: no engine makes them of a float32 graph."""

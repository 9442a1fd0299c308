"""The number formats a graph can be computed in: one enumeration for every engine and every file.

Names only; which engine can do which is the engine's business.
"""

from enum import StrEnum


class Precision(StrEnum):
    """What a graph's heavy layers compute in."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    FP8 = "fp8"

"""The two definitions that stand beside the silicon: one rounding in all, and one rounding a block."""

from . import ieee
from .numbers import Number, decode, product


def products(a: list[Number], b: list[Number]) -> list[Number]:
    return [product(x, y) for x, y in zip(a, b, strict=True)]


def scaled(a: list[Number], b: list[Number], sa: list[Number], sb: list[Number], block: int) -> list[Number]:
    return [product(p, product(sa[k // block], sb[k // block])) for k, p in enumerate(products(a, b))]


def mx_exact(terms: list[Number], c: int, out: str) -> int:
    return ieee.fused_sum([*terms, decode(out, c)], out)


def mx_fp32_chain(terms: list[Number], block: int, c: int, out: str) -> int:
    acc = c if out == "fp32" else widen(c)
    for k in range(0, len(terms), block):
        acc = ieee.add(acc, ieee.fused_sum(terms[k : k + block], "fp32"))
    return acc if out == "fp32" else narrow(acc)


def widen(c: int) -> int:
    number = decode("fp16", c)
    return ieee.ieee_sum([number], "fp32")


def narrow(acc: int) -> int:
    return ieee.ieee_sum([decode("fp32", acc)], "fp16")

"""The named units. To add one, add a literal; a unit of your own can as well be a TOML file (see docs/units.md).

Sources: FTTN, arXiv 2403.00232; Khattak and Mikaitis, MATLAB-tensor-core, with captures of V100 to B200; MMA-Sim 2.1.1 (PyPI), whose
authors tested its models on silicon; PTX ISA; the vendors' manuals and RTL. Where these stop, tests/oracles/CHOICES.md says what was
chosen.
"""

from __future__ import annotations

from dataclasses import replace

from mxsim.registry import Registry
from mxsim.units.spec import FlooredC, Level, MatmulUnit, UnitPath

_TESTED = "MMA-Sim 2.1.1, tested on silicon by its authors"
_CAPTURES = "Khattak and Mikaitis, MATLAB-tensor-core: captured outputs"
_MACHINE_CODE = "the machine code of CUDA 13.0's compiler, whose fp16 steps are captured"
_NVIDIA_NAN = {"fp32": 0x7FFFFFFF, "fp16": 0x7FFF}
_QUIET_NAN = {"fp32": 0x7FC00000, "fp16": 0x7E00}
_FP8 = ("e4m3", "e5m2")
_F8F6F4 = ("e4m3", "e5m2", "e3m2", "e2m3", "e2m1")
_MXF8F6F4 = ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4_e2m1")
_FNUZ = ("e4m3fnuz", "e5m2fnuz")


def _t_fdpa(
    *formats: str,
    L: int,
    F: int,
    e_zero: tuple[int, int],
    captured: tuple[str, ...] = (),
    outputs: tuple[str, ...] = ("fp32",),
    step: str = "rz_fp32",
    mixed: bool = False,
    name: str = "T-FDPA",
) -> list[UnitPath]:
    """NVIDIA's truncated fused dot product: L products and C aligned to the largest exponent, cut to F fraction bits, one rounding.

    e_zero: for fp32 and for fp16 output. captured: the GPUs whose vectors it reproduces, mixed operands apart.
    """
    paths = []
    for out, zero in zip(("fp32", "fp16"), e_zero, strict=True):
        if out not in outputs:
            continue
        path = UnitPath(
            name=name,
            formats=formats,
            out=out,
            chunk=L,
            F=F,
            e_zero=zero,
            step=step if out == "fp32" else "rne_fp16",
            zero="positive",
            nan=_NVIDIA_NAN[out],
            level=Level.VECTORS if captured else Level.SILICON_TESTED,
            source=f"{_CAPTURES} of {', '.join(captured)}; {_TESTED}" if captured else _TESTED,
            vectors=captured,
        )
        if captured or not mixed:
            paths.append(path)
        if mixed:
            paths.append(replace(path, pairs="any", level=Level.SILICON_TESTED, source=_TESTED, vectors=()))
    return paths


def _halves(*captured: str, L: int, F: int, e_zero: tuple[int, int]) -> list[UnitPath]:
    """fp16, bf16 and tf32: one model, half as many products of tf32."""
    return [
        *_t_fdpa("fp16", L=L, outputs=("fp32", "fp16"), F=F, e_zero=e_zero, captured=captured),
        *_t_fdpa("bf16", L=L, F=F, e_zero=e_zero, captured=captured),
        *_t_fdpa("tf32", L=L // 2, F=F, e_zero=e_zero, captured=captured),
    ]


def _widening_mma(out: str, *captured: str) -> list[UnitPath]:
    """FP8 mma.sync: operands widen to fp16; two steps of 16 terms from zero, k mod 4 in {0, 1} and then {2, 3}; C is added last.

    So the machine code has it that NVIDIA's compiler makes of any pair of operands and either output: docs/units.md.
    """
    path = UnitPath(
        name="mma.sync FP8",
        formats=_FP8,
        out=out,
        exponents="fp16",
        chunk=16,
        order="mod4_pairs",
        F=25,
        e_zero={"fp32": -133, "fp16": -21}[out],
        c="late",
        instruction=32,
        step={"fp32": "rz_fp32", "fp16": "rne_fp16"}[out],
        late=f"rne_{out}",
        zero="positive",
        nan=_NVIDIA_NAN[out],
        level=Level.VECTORS if captured else Level.DOCUMENTED,
        source=f"{_CAPTURES} of {', '.join(captured)}; {_MACHINE_CODE}" if captured else _MACHINE_CODE,
        vectors=captured,
    )
    mixed = replace(path, pairs="any", level=Level.DOCUMENTED, source=_MACHINE_CODE, vectors=())
    return [path, mixed]


def _gst_fdpa(name: str, format: str, block: int) -> UnitPath:
    """Exact sums of 16 products, placed by the exponents of their scales alone; four of them and C are cut and added."""
    return UnitPath(
        name=name,
        formats=(format,),
        scaling="group",
        block=block,
        presum=16,
        chunk=64,
        F=35,
        e_zero=-139,
        zero="positive",
        nan=_NVIDIA_NAN["fp32"],
        level=Level.SILICON_TESTED,
        source=_TESTED,
    )


def _fma_chain(nan: int, source: str = _TESTED) -> UnitPath:
    return UnitPath(
        name="fp32 FMA chain",
        formats=("fp32",),
        reduce="fma",
        chunk=1,
        step="rne_fp32",
        nan=nan,
        level=Level.SILICON_TESTED,
        source=source,
    )


def _exact(name: str, *formats: str, out: str = "fp32", level: Level, source: str, **fields: object) -> UnitPath:
    """An exact sum of a chunk's products and C, rounded once to nearest even."""
    described: dict[str, object] = {"reduce": "exact", "step": f"rne_{out}", "nan": _QUIET_NAN[out]} | fields
    return UnitPath(name=name, formats=formats, out=out, level=level, source=source, **described)  # type: ignore[arg-type]


def _cdna2(*formats: str) -> UnitPath:
    return UnitPath(
        name="MFMA",
        formats=formats,
        denormals="flush",
        c_denormals="flush",
        reduce="pairwise",
        chunk=4,
        c="late",
        step="rne_fp32_ftz",
        late="rne_fp32_ftz",
        nan=_QUIET_NAN["fp32"],
        level=Level.SILICON_TESTED,
        source=f"{_TESTED}; bf16 is the _1k instruction",
    )


def _cdna3(*formats: str, L: int, order: str = "ascending", limit: int | None = 128, drop: int | None = None) -> UnitPath:
    return UnitPath(
        name="MFMA",
        formats=formats,
        pairs="any" if len(formats) > 1 and order == "even_odd" else "same",
        chunk=L,
        order=order,
        product_limit=limit,
        F=24,
        c="floored",
        floored_c=FlooredC(sum_bits=32, c_bits=24, norm_bits=31, drop_below=drop),
        step="rne_fp32",
        nan=_NVIDIA_NAN["fp32"],
        level=Level.SILICON_TESTED,
        source=_TESTED,
    )


def _bulknorm(*formats: str, n: int, pairs: str) -> UnitPath:
    return UnitPath(
        name="BulkNorm",
        formats=formats,
        pairs=pairs,
        chunk=n,
        align="jam",
        F=23 + (n - 1).bit_length(),
        c="late",
        step="rto_fp32",
        late="rto_fp32",
        nan=_QUIET_NAN["fp32"],
        level=Level.ASSUMED,
        source="Spike, bulknormdot.h and zvbdot.h; the chunk of 16 (bf16) or 32 (FP8) assumes VLEN = 256, LMUL = 1",
    )


def _amx(name: str, format: str, chunk: int, chains: int, denormals: str = "keep") -> UnitPath:
    return UnitPath(
        name=name,
        formats=(format,),
        denormals=denormals,
        c_denormals="flush_signed",
        reduce="fma",
        chains=chains,
        chunk=chunk,
        c="late",
        step="rne_fp32_ftz",
        late="rne_fp32_ftz",
        nan=_QUIET_NAN["fp32"],
        level=Level.DOCUMENTED,
        source=f"Intel SDM, {name}: operation; the NaN's bits are assumed",
    )


_MXDOTP = "PULP, fpnew_mxdotp_multi (RTL)"
_OURS = "mxsim's own definition"
_MX = (*_MXF8F6F4, "mxint8")
_UNSCALED = ("fp16", "bf16", "tf32", "fp32", *_F8F6F4)
_B200_NOTE = "Which instruction made the fp16, bf16 and tf32 captures of B200 is not recorded; those of FP8 are mma.sync."
_H100_NOTE = "Which instruction made the fp16, bf16 and tf32 captures of H100 is not recorded."

UNITS: Registry[MatmulUnit] = Registry(
    "matrix unit",
    [
        MatmulUnit(
            name="nvidia_volta",
            title="NVIDIA V100 tensor core, mma.sync m8n8k4",
            paths=tuple(_t_fdpa("fp16", L=4, F=23, e_zero=(-131, -19), captured=("V100",), outputs=("fp32", "fp16"))),
            source=f"{_CAPTURES}; {_TESTED}",
        ),
        MatmulUnit(
            name="nvidia_turing",
            title="NVIDIA Turing tensor core, mma.sync m16n8k8 (m8n8k4 is nvidia_volta's arithmetic)",
            paths=tuple(_t_fdpa("fp16", L=8, F=24, e_zero=(-132, -20), outputs=("fp32", "fp16"))),
            source=_TESTED,
        ),
        MatmulUnit(
            name="nvidia_ampere",
            title="NVIDIA A100 and A2 tensor core, mma.sync",
            paths=tuple(_halves("A100", "A2", L=8, F=24, e_zero=(-132, -20))),
            source=f"{_CAPTURES}; {_TESTED}",
        ),
        MatmulUnit(
            name="nvidia_ada",
            title="NVIDIA Ada tensor core, mma.sync",
            paths=(
                *_halves("Ada", L=8, F=24, e_zero=(-132, -20)),
                *_t_fdpa(*_FP8, L=16, F=13, e_zero=(-132, -20), captured=("Ada",), outputs=("fp32", "fp16"), step="rz_e8m13", mixed=True),
            ),
            source=f"{_CAPTURES}; {_TESTED}",
        ),
        MatmulUnit(
            name="nvidia_hopper_wgmma",
            title="NVIDIA H100 tensor core, wgmma",
            paths=(
                *_halves("H100", L=16, F=25, e_zero=(-133, -21)),
                *_t_fdpa(*_FP8, L=32, F=13, e_zero=(-133, -21), captured=("H100",), step="rz_e8m13", mixed=True),
                *_t_fdpa(*_FP8, L=32, F=13, e_zero=(-133, -21), outputs=("fp16",), mixed=True),
            ),
            source=f"{_CAPTURES}; {_TESTED}",
            notes=f"{_H100_NOTE} The FP8 captures have C = 0.",
        ),
        MatmulUnit(
            name="nvidia_hopper_mma",
            title="NVIDIA H100 tensor core, mma.sync",
            paths=(
                *_halves("H100", L=16, F=25, e_zero=(-133, -21)),
                *_widening_mma("fp32"),
                *_widening_mma("fp16", "H100"),
            ),
            source=f"{_CAPTURES}; {_TESTED}",
            notes=_H100_NOTE,
        ),
        MatmulUnit(
            name="nvidia_blackwell",
            title="NVIDIA B200 tensor core, tcgen05.mma with and without block scales",
            paths=(
                *_halves("B200", L=16, F=25, e_zero=(-133, -21)),
                *_t_fdpa(*_F8F6F4, L=32, F=25, e_zero=(-133, -21), outputs=("fp32", "fp16"), mixed=True, name="f8f6f4"),
                _gst_fdpa("mxf4", "mxfp4_e2m1", 32),
                _gst_fdpa("mxf4nvf4", "nvfp4", 16),
                UnitPath(
                    name="mxf8f6f4",
                    formats=_MXF8F6F4,
                    pairs="any",
                    scaling="exact",
                    block=32,
                    chunk=32,
                    F=25,
                    e_zero=-133,
                    zero="positive",
                    nan=_NVIDIA_NAN["fp32"],
                    level=Level.SILICON_TESTED,
                    source=_TESTED,
                ),
            ),
            source=f"{_CAPTURES}; {_TESTED}",
            notes=_B200_NOTE,
        ),
        MatmulUnit(
            name="nvidia_blackwell_mma",
            title="NVIDIA B200 tensor core, mma.sync",
            paths=(
                *_halves("B200", L=16, F=25, e_zero=(-133, -21)),
                *_widening_mma("fp32", "B200"),
                *_widening_mma("fp16", "B200"),
            ),
            source=f"{_CAPTURES}; {_TESTED}",
            notes=_B200_NOTE,
        ),
        MatmulUnit(
            name="amd_cdna1",
            title="AMD MI100 matrix core, MFMA",
            paths=(
                _fma_chain(_QUIET_NAN["fp32"]),
                _exact("MFMA", "fp16", chunk=4, level=Level.SILICON_TESTED, source=_TESTED),
                _exact("MFMA", "bf16", chunk=2, level=Level.SILICON_TESTED, source=_TESTED),
            ),
            source=f"FTTN; {_TESTED}",
        ),
        MatmulUnit(
            name="amd_cdna2",
            title="AMD MI210 and MI250 matrix core, MFMA",
            paths=(_fma_chain(_QUIET_NAN["fp32"]), _cdna2("fp16", "bf16")),
            source=f"FTTN; {_TESTED}",
        ),
        MatmulUnit(
            name="amd_cdna3",
            title="AMD MI300 matrix core, MFMA",
            paths=(
                _fma_chain(_NVIDIA_NAN["fp32"]),
                _cdna3("fp16", "bf16", L=8),
                _cdna3("tf32", L=4),
                _cdna3(*_FNUZ, L=16, order="even_odd", limit=None, drop=25),
            ),
            source=_TESTED,
            notes="FP8 beside an Inf or NaN in C follows tests/oracles/CHOICES.md, not MMA-Sim.",
        ),
        MatmulUnit(
            name="pulp_mxdotp",
            title="PULP MXDOTP dot-product unit",
            paths=tuple(
                _exact(
                    "MXDOTP",
                    *formats,
                    scaling="exact",
                    block=32,
                    chunk=chunk,
                    within=32,
                    int8_fraction=0,
                    level=level,
                    source=source,
                )
                for formats, chunk, level, source in (
                    (("mxfp8_e4m3", "mxfp8_e5m2"), 8, Level.DOCUMENTED, _MXDOTP),
                    (("mxint8",), 8, Level.DOCUMENTED, f"{_MXDOTP}: INT8 elements are integers, OCP's 2^-12 is left out"),
                    (("mxfp4_e2m1",), 16, Level.DOCUMENTED, _MXDOTP),
                    (("mxfp6_e3m2", "mxfp6_e2m3"), 11, Level.ASSUMED, f"{_MXDOTP}; that FP6 uses all 11 lanes is assumed"),
                )
            ),
            source=_MXDOTP,
        ),
        MatmulUnit(
            name="riscv_bulknorm",
            title="RISC-V BulkNorm dot product, Zvfwbdot16bf and Zvfqbdot8f",
            paths=(_bulknorm("bf16", n=16, pairs="same"), _bulknorm(*_FP8, n=32, pairs="any")),
            source="Spike, bulknormdot.h and zvbdot.h",
        ),
        MatmulUnit(
            name="arm_fp8_fdot",
            title="Arm FP8 FDOT, 4-way to FP32 and 2-way to FP16, LSCALE = 0",
            paths=tuple(
                _exact("FDOT", *_FP8, out=out, pairs="any", chunk=ways, level=Level.DOCUMENTED, source="Arm ARM, FP8 FDOT")
                for out, ways in (("fp32", 4), ("fp16", 2))
            ),
            source="Arm ARM, summary of FP8 instruction behaviours; FDOT",
        ),
        MatmulUnit(
            name="intel_amx",
            title="Intel AMX tile products",
            paths=(
                _amx("TDPBF16PS", "bf16", 32, 2, denormals="flush_signed"),
                _amx("TDPFP16PS", "fp16", 32, 2),
                _amx("TMMULTF32PS", "tf32", 16, 1),
            ),
            source="Intel SDM",
        ),
        MatmulUnit(
            name="mx_exact",
            title="Reference: one rounding of the exact sum",
            paths=tuple(
                path
                for out in ("fp32", "fp16")
                for path in (
                    _exact("exact", *_UNSCALED, out=out, pairs="any", level=Level.DOCUMENTED, source=_OURS),
                    _exact("exact", *_MX, out=out, pairs="any", scaling="exact", block=32, level=Level.DOCUMENTED, source=_OURS),
                    _exact("exact", "nvfp4", out=out, scaling="exact", block=16, level=Level.DOCUMENTED, source=_OURS),
                )
            ),
            source=_OURS,
        ),
        MatmulUnit(
            name="mx_fp32_chain",
            title="Reference: every block's exact sum rounded to FP32, added in order in FP32",
            paths=tuple(
                _exact(
                    "FP32 chain",
                    *formats,
                    out=out,
                    pairs="any",
                    scaling="exact",
                    block=block,
                    chunk=block,
                    c="late",
                    step="rne_fp32",
                    level=Level.DOCUMENTED,
                    source=_OURS,
                )
                for out in ("fp32", "fp16")
                for formats, block in ((_MX, 32), (("nvfp4",), 16))
            ),
            source=_OURS,
        ),
    ],
)

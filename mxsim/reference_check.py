"""Every quantised weight against the float checkpoint: the producer's own rule first, then the manifest's, then all others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mxsim.causes import Example, Mismatches
from mxsim.checkpoints.checkpoint import Checkpoint
from mxsim.checkpoints.folder import CheckpointFolder
from mxsim.checkpoints.layout import Finding, QuantizedTensor, Severity
from mxsim.errors import MxsimError
from mxsim.explanation import FloatWeight, Rule, candidates, explain, tensor_scale_bits, two_level
from mxsim.plain_tensors import TIED
from mxsim.policies import POLICIES
from mxsim.verdict import MISMATCH, PROVEN, UNPROVEN, Verdict

#: Linears that serving engines run as one: producers give them one tensor scale, that of the largest magnitude among them.
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("w1", "w3"), ("k_proj", "v_proj"))

Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of a weight under one rule."""

    rule: Rule
    mismatches: Mismatches
    note: str = ""  #: how its tensor scale came about


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightCheck:
    """What became of all quantised weights."""

    verdicts: list[Verdict]  #: in the order of Checkpoint.quantized
    policy: str | None  #: that explains all of them, or comes closest
    explains_all: bool
    findings: list[Finding]  #: where the config names another scale rule than the one that explains all of them


def check_weights(read: Checkpoint, reference: CheckpointFolder, named: str | None, progress: Progress) -> WeightCheck:
    """Hold every quantised weight against the float one. named: the policy that a manifest names, tried right after the producer's."""
    checker = _Checker(reference, progress)
    best: dict[str, Attempt] = {}
    unusable: dict[str, Verdict] = {}
    for weight in read.quantized:
        problem = checker.problem(weight)
        if problem is not None:
            unusable[weight.weight] = problem
            continue
        first = [Rule(read.policy, weight.scale_rule)] if read.policy else []
        if named is not None and named in POLICIES:
            first.append(Rule(named))
        best[weight.weight] = checker.best(weight, first)
    best, policy = _one_policy(read, checker, best)
    explained = bool(best) and not unusable and all(a.rule.policy == policy and a.mismatches.count == 0 for a in best.values())
    return WeightCheck(
        verdicts=[unusable.get(w.weight) or _verdict(w, best[w.weight]) for w in read.quantized],
        policy=policy,
        explains_all=explained,
        findings=_scale_rule(read, checker, best) if explained else [],
    )


def _one_policy(read: Checkpoint, checker: _Checker, best: dict[str, Attempt]) -> tuple[dict[str, Attempt], str | None]:
    """One rule for the whole checkpoint: the producer's unless another explains what it does not, and everything else too.

    Of those that explain a weight, the one under which the fewest weights differ; the first of them in the order of their votes.
    """
    if not best:
        return best, None
    weights = {w.weight: w for w in read.quantized if w.weight in best}
    if read.policy is not None and all(a.rule == Rule(read.policy, weights[name].scale_rule) for name, a in best.items()):
        return best, read.policy
    votes = [a.rule for a in best.values()]
    chosen, fewest = votes[0], len(best) + 1
    for rule in sorted(dict.fromkeys(votes), key=votes.count, reverse=True):
        under: dict[str, Attempt] = {}
        differing = 0
        for name, attempt in best.items():
            tried = attempt if attempt.rule == rule else checker.attempt(weights[name], rule, 0)
            if tried is not None and not tried.mismatches.count:
                under[name] = tried
            else:
                differing += 1
            if differing >= fewest:
                break
        if not differing:
            return under, rule.policy
        if differing < fewest:
            chosen, fewest = rule, differing
    whole = {name: a if a.rule == chosen else checker.attempt(weights[name], chosen) for name, a in best.items()}
    return {name: _under(chosen, attempt, whole[name]) for name, attempt in best.items()}, chosen.policy


def _under(rule: Rule, best: Attempt, attempt: Attempt | None) -> Attempt:
    """A weight under the checkpoint's rule, even where another one alone explains it: with so many to choose from, one of them explains
    many a changed bit."""
    if best.rule == rule or attempt is None:
        return best
    return replace(attempt, note=f"policy {best.rule} explains this weight alone") if best.mismatches.count == 0 else best


def _scale_rule(read: Checkpoint, checker: _Checker, best: dict[str, Attempt]) -> list[Finding]:
    """Where the config names one scale rule, and the bits are those of another that it could have named."""
    layout = read.layout
    if not layout.scale_rule_key or layout.policy is None:
        return []
    for weight in read.quantized:
        explaining = best[weight.weight].rule
        stated, found = (checker.scale_rule(weight, rule) for rule in (Rule(layout.policy, weight.scale_rule), explaining))
        if found != stated and found in {checker.scale_rule(weight, Rule(layout.policy, rule)) for rule in layout.scale_rules}:
            says = f"stands for scale rule {stated}, but policy {explaining} explains the bits, with scale rule {found}"
            return [Finding(severity=Severity.MISMATCH, where=layout.scale_rule_key, says=says)]
    return []


class _Checker:
    """The float weights and their largest magnitudes, each looked for once."""

    def __init__(self, reference: CheckpointFolder, progress: Progress) -> None:
        self.tensors = dict(reference.tensors)
        if reference.config.get("tie_word_embeddings"):
            self.tensors = {name: reference.tensors[tied] for name, tied in TIED.items() if tied in reference.tensors} | self.tensors
        self.progress = progress
        self._amax: dict[tuple[str, bool], np.float32] = {}

    def problem(self, weight: QuantizedTensor) -> Verdict | None:
        """Why a weight cannot be compared at all."""
        stored = self.tensors.get(weight.weight)
        verdict = Verdict(name=weight.weight, format=weight.format, elements=weight.count, status=UNPROVEN)
        if stored is None:
            return replace(
                verdict,
                detail="is quantised, but the reference has no tensor of that name: give the checkpoint that it was made of",
            )
        if not stored.is_float:
            return replace(
                verdict,
                detail=f"is quantised, but the reference's is {stored.dtype}, no float weight to convert: give the float checkpoint",
            )
        shape = (*stored.shape[:-2], stored.shape[-1], stored.shape[-2]) if weight.transposed else stored.shape
        if shape != weight.shape:
            detail = f"stands for shape {list(weight.shape)}, but the reference has {list(shape)}"
            return replace(verdict, status=MISMATCH, mismatches=weight.count, detail=detail)
        scale = weight.stored_tensor_scale()
        if scale is not None and not (np.isfinite(scale) and scale > 0):
            detail = f"its tensor scale is {scale}: a finite number above 0 is expected"
            return replace(verdict, status=MISMATCH, mismatches=1, detail=detail, causes={"tensor scale": 1})
        return None

    def scale_rule(self, weight: QuantizedTensor, rule: Rule) -> str | None:
        """The name of the scale rule that a weight has under a rule; None for nvfp4."""
        dtype = FloatWeight(self.tensors[weight.weight], weight.transposed).dtype
        return rule.scale_rule or POLICIES[rule.policy].conversion(weight.format, dtype).scale_rule

    def best(self, weight: QuantizedTensor, first: list[Rule]) -> Attempt:
        """The attempt with the fewest mismatches; the first rules stand before the others, in their order, where as few are left."""
        best: Attempt | None = None
        for rule in candidates(first):
            attempt = self.attempt(weight, rule, None if best is None else best.mismatches.count)
            if attempt is not None and (best is None or attempt.mismatches.count < best.mismatches.count):
                best = attempt
            if best is not None and best.mismatches.count == 0:
                break
        assert best is not None, "policy ocp converts every format from every float dtype"
        for part in (weight.elements, weight.scales, self.tensors[weight.weight]):
            part.release()
        return best

    def attempt(self, weight: QuantizedTensor, rule: Rule, most: int | None = None) -> Attempt | None:
        """A weight under one rule; None where the policy does not convert its format from the reference's dtype."""
        reference = FloatWeight(self.tensors[weight.weight], weight.transposed)
        try:
            POLICIES[rule.policy].conversion(weight.format, reference.dtype)
            mismatches = explain(weight, reference, rule, most, lambda count: self.progress(f"{weight.module}: {rule}", count))
        except MxsimError:
            return None
        note = ""
        if weight.tensor_scale is not None:
            note, example = self._tensor_scale(weight, rule, reference.dtype)
            if example is not None:
                mismatches.examples.insert(0, example)
                mismatches.add("tensor scale")
        return Attempt(rule, mismatches, note)

    def _tensor_scale(self, weight: QuantizedTensor, rule: Rule, dtype: str) -> tuple[str, Example | None]:
        """Where the stored number comes from: the tensor's own largest magnitude, or that of the linears fused with it."""
        assert weight.tensor_scale is not None
        found = int(weight.tensor_scale.raw().view("<u4")[0])
        finite_only = two_level(rule, dtype).finite_only
        own = tensor_scale_bits(weight, rule, self.amax(weight.weight, finite_only), dtype)
        if own == found:
            return "", None
        parent, _, leaf = weight.module.rpartition(".")
        for group in FUSED:
            names = [f"{parent}.{name}.weight" for name in group]
            if leaf in group and all(name in self.tensors for name in names):
                largest = np.float32(max(self.amax(name, finite_only) for name in names))
                if tensor_scale_bits(weight, rule, largest, dtype) == found:
                    return f"tensor scale of the largest magnitude in {', '.join(group)}", None
        return "", Example(what="tensor scale", index=(), expected=own, found=found, cause="tensor scale")

    def amax(self, name: str, finite_only: bool) -> np.float32:
        key = (name, finite_only)
        if key not in self._amax:
            self._amax[key] = FloatWeight(self.tensors[name], False).amax(finite_only)
        return self._amax[key]


def _verdict(weight: QuantizedTensor, attempt: Attempt) -> Verdict:
    found = attempt.mismatches
    verdict = Verdict(
        name=weight.weight,
        format=weight.format,
        elements=weight.count,
        status=MISMATCH if found.count else PROVEN,
        mismatches=found.count,
        policy=str(attempt.rule),
        causes=dict(found.causes),
        examples=tuple(found.examples),
    )
    if not found.count:
        return replace(verdict, detail=f"every bit as policy {attempt.rule} makes it" + (f"; {attempt.note}" if attempt.note else ""))
    counted = ", ".join(f"{count} {cause}" for cause, count in sorted(found.causes.items(), key=lambda item: -item[1]))
    if "scale offset" in found.causes:
        ((offset, _),) = found.offsets.items()
        counted += f" (every scale {offset:+d}, the weights {2.0**offset:g} times what they should be)"
    return replace(verdict, detail=f"closest is policy {attempt.rule}: {counted}" + (f"; {attempt.note}" if attempt.note else ""))

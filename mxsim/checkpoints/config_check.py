"""A producer's quantization_config, key by key: what it must say, what it may say, and what nobody has seen it say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mxsim.checkpoints.layout import Finding, Severity
from mxsim.json_files import shortened

#: A pattern from a file is not run where it could take exponential time, or long polynomial time.
MOST_PATTERN, MOST_QUANTIFIERS = 300, 4
QUANTIFIED_GROUP = re.compile(r"\)[*+{]")
QUANTIFIER = re.compile(r"(?<!\\)[*+{]")


class ConfigCheck:
    """Reads an object's keys and collects findings: every key must be asked for before `finish`."""

    def __init__(self, content: Any, where: str, findings: list[Finding]) -> None:
        self.where = where
        self.findings = findings
        self.content: Mapping[str, Any] = content if isinstance(content, dict) else {}
        self._asked: set[str] = set()
        if not isinstance(content, dict):
            self.mismatch("", f"is {said(content)}: an object is expected")

    def value(self, key: str) -> Any:
        """The value of a key; None where it is absent."""
        self._asked.add(key)
        return self.content.get(key)

    def text(self, key: str) -> str:
        """The value of a key where it is a string; else the empty one."""
        value = self.value(key)
        return value if isinstance(value, str) else ""

    def expect(self, key: str, *allowed: Any) -> Any:
        """A key that settles bits: anything but the allowed values contradicts the tensors. None among them lets it be absent."""
        value = self.value(key)
        if not any(same(value, one) for one in allowed):
            names = " or ".join(said(one) for one in allowed)
            self.mismatch(key, f"is {said(value)}: the tensors need {names}")
        return value

    def known(self, key: str, *seen: Any) -> Any:
        """A key that no bit at hand follows from: other values than those seen are reported as not provable."""
        value = self.value(key)
        if key in self.content and not any(same(value, one) for one in seen):
            self.unproven(key, f"is {said(value)}: nothing in the tensors shows what it stands for")
        return value

    def ignored(self, *keys: str) -> None:
        """Keys that are checked elsewhere."""
        self._asked.update(keys)

    def finish(self, *, strict: bool = False) -> None:
        """Report every key that nobody asked for: as a contradiction where the producer's own library refuses it."""
        for key in self.content:
            if key not in self._asked:
                report = self.mismatch if strict else self.unproven
                report(key, "is a key that this producer is not known to write")

    def mismatch(self, key: str, says: str) -> None:
        self._add(Severity.MISMATCH, key, says)

    def unproven(self, key: str, says: str) -> None:
        self._add(Severity.UNPROVEN, key, says)

    def _add(self, severity: Severity, key: str, says: str) -> None:
        where = f"{self.where}.{shortened(key)}" if key else self.where
        self.findings.append(Finding(severity=severity, where=where, says=says))


def same(a: Any, b: Any) -> bool:
    """Equal in JSON: true is not 1, 32.0 is not 32."""
    return type(a) is type(b) and bool(a == b)


def said(value: Any) -> str:
    return "absent" if value is None else shortened(json.dumps(value))


def matches(name: str, patterns: Iterable[str], class_name: str = "Linear") -> int:
    """How well patterns match a module: 3 by its name, 2 by a regular expression ("re:..."), 1 by its class, 0 not at all.

    Source: compressed_tensors/utils/match.py: names stand before expressions, and those before classes.
    """
    best = 0
    for pattern in patterns:
        if pattern == name:
            return 3
        if pattern.startswith("re:"):
            if compiled(pattern[3:]).match(name):
                best = max(best, 2)
        elif pattern == class_name:
            best = max(best, 1)
    return best


def compiled(pattern: str) -> re.Pattern[str]:
    """A regular expression from a file; ValueError where it is broken or could run away."""
    if len(pattern) > MOST_PATTERN or QUANTIFIED_GROUP.search(pattern) or len(QUANTIFIER.findall(pattern)) > MOST_QUANTIFIERS:
        raise ValueError("it is too long, repeats a group or has many repetitions")
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None


def name_patterns(check: ConfigCheck, key: str) -> list[str]:
    """A list of names and patterns under a key; what is none is reported and left out."""
    value = check.value(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        check.mismatch(key, f"is {said(value)}: a list of names is expected")
        return []
    usable = []
    for one in value:
        try:
            if one.startswith("re:"):
                compiled(one[3:])
            usable.append(one)
        except ValueError as error:
            check.mismatch(key, f"has the pattern {said(one)}, which is not run: {error}")
    return usable

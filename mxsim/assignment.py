"""Assignment: which formats each layer's operands take. What a search returns, cost reads, export applies."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mxsim.errors import MxsimError
from mxsim.json_files import parsed_json
from mxsim.storage_formats import FormatPair

_KEYS = ("layers", "skipped", "policy", "budget", "achieved", "search")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Layer name -> format pair, with what was asked of the search and what came of it."""

    layers: Mapping[str, FormatPair]
    skipped: tuple[str, ...] = ()  #: linears left in the wide type
    policy: str = "ocp"  #: how values are converted: a name in mxsim.POLICIES
    budget: Mapping[str, Any] = field(default_factory=dict)
    achieved: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", dict(self.layers))
        both = sorted(set(self.layers).intersection(self.skipped))
        if both:
            raise MxsimError(f"layer {both[0]!r} is both assigned and skipped: name it once")

    @classmethod
    def uniform(cls, names: Iterable[str], pair: FormatPair | str, *, policy: str = "ocp") -> Assignment:
        """The same pair, or "W[:A]", for every named layer."""
        formats = FormatPair.parse(pair) if isinstance(pair, str) else pair
        return cls(layers=dict.fromkeys(names, formats), policy=policy)

    def to_json(self) -> dict[str, Any]:
        """The content of assignment.json, as plain dictionaries and lists."""
        return {
            "layers": {name: {"weight": pair.weight, "activation": pair.activation} for name, pair in self.layers.items()},
            "skipped": list(self.skipped),
            "policy": self.policy,
            "budget": dict(self.budget),
            "achieved": dict(self.achieved),
            "search": dict(self.search),
        }

    @classmethod
    def from_json(cls, content: Any, *, where: str = "assignment") -> Assignment:
        """Check and take what to_json gives. Only "layers" must be there; a key nobody knows is refused.

        Args: where: what error messages call the content, a file's name say.  Raises: MxsimError.
        """
        if not isinstance(content, Mapping):
            raise MxsimError(f"{where}: a JSON object is expected, got {type(content).__name__}")
        unknown = sorted(set(content) - set(_KEYS))
        if unknown:
            raise MxsimError(f"{where}: unknown key {unknown[0]!r}: known are {', '.join(_KEYS)}")
        layers = content.get("layers")
        if not isinstance(layers, Mapping):
            raise MxsimError(f'{where}: "layers" is missing or no object: it maps a layer to {{"weight", "activation"}}')
        skipped = content.get("skipped", [])
        if not isinstance(skipped, list) or not all(isinstance(name, str) for name in skipped):
            raise MxsimError(f'{where}: "skipped" must be a list of layer names, got {skipped!r}')
        policy = content.get("policy", "ocp")
        if not isinstance(policy, str):
            raise MxsimError(f'{where}: "policy" must be a policy\'s name, got {policy!r}')
        for key in ("budget", "achieved", "search"):
            if not isinstance(content.get(key, {}), Mapping):
                raise MxsimError(f'{where}: "{key}" must be an object, got {content[key]!r}')
        return cls(
            layers={name: _pair(name, formats, where) for name, formats in layers.items()},
            skipped=tuple(skipped),
            policy=policy,
            **{key: dict(content.get(key, {})) for key in ("budget", "achieved", "search")},
        )

    def save(self, path: str | Path) -> None:
        """Write assignment.json, whole or not at all; a folder takes a file of that name."""
        from mxsim.files import renamed_when_whole  # brings numpy, which reading one and its costs do without

        target = Path(path)
        target = target / "assignment.json" if target.is_dir() else target
        with renamed_when_whole(target) as part:
            part.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Assignment:
        """Read assignment.json, from the file or from its folder. Raises: MxsimError where it cannot be read, or names a layer twice."""
        source = Path(path)
        source = source / "assignment.json" if source.is_dir() else source
        try:
            text = source.read_bytes()
        except OSError as error:
            raise MxsimError(f"assignment {str(path)!r} cannot be read: {error.strerror or error}") from error
        return cls.from_json(parsed_json(text, str(source)), where=str(source))


def _pair(name: str, formats: Any, where: str) -> FormatPair:
    if not isinstance(formats, Mapping) or set(formats) != {"weight", "activation"}:
        raise MxsimError(f'{where}: layer {name!r} must be {{"weight": F, "activation": F}}, got {formats!r}')
    try:
        return FormatPair(formats["weight"], formats["activation"])
    except MxsimError as error:
        raise MxsimError(f"{where}: layer {name!r}: {error}") from error

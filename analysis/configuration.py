"""The configuration of the main job: a YAML file, checked against this schema. Every key has the meaning of the flag it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from analysis.errors import AnalysisError
from mxsim.storage_formats import FormatPair

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)
DEVICE = "b200"
ASSUME = "b200-fp4-half-fp8"  #: of DEVICE


def _place(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("a place has a name, without characters of code 0")
    return text


def _kv_format(text: str) -> str:
    FormatPair.parse(text)
    return text


Words = list[str]
Place = Annotated[str, AfterValidator(_place)]


class Hardware(BaseModel):
    """Where the model runs: what energy and latency are of."""

    model_config = STRICT

    device: Place | None = Field(DEVICE, description="A device of `mxsim hardware` or a TOML file; null leaves costs out.")
    assume: Words = Field(
        [ASSUME], description="Assumptions of the device that are accepted, by name; with another device none, if left out."
    )
    phase: Literal["prefill", "decode"] = Field("decode", description="One step of this kind.")
    batch: int = Field(1, ge=1, description="Sequences at a time.")
    context: int | None = Field(None, ge=1, description="Tokens of each prompt or cache; null is 1024, or the model's longest.")
    scenario: Words = Field([], description="PHASE:BATCH:CONTEXT[*TIMES] words in place of phase, batch and context; they add up.")
    kv_format: Annotated[str, AfterValidator(_kv_format)] = Field("bf16", description="The KV cache's format, or K:V.")

    @model_validator(mode="before")
    @classmethod
    def _of_another_device(cls, content: Any) -> Any:
        """The assumption that goes without saying is the usual device's."""
        is_other = isinstance(content, dict) and content.get("device", DEVICE) != DEVICE
        return {"assume": [], **content} if is_other else content

    @model_validator(mode="after")
    def _says_its_steps_once(self) -> Hardware:
        usual = Hardware.model_fields
        beside = [name for name in ("batch", "context", "phase") if getattr(self, name) != usual[name].default]
        if self.scenario and beside:
            raise ValueError(f"scenario says the steps itself: leave out {', '.join(beside)}")
        return self


class Workers(BaseModel):
    """Who does the runs."""

    model_config = STRICT

    engine: Literal["local", "ray"] = Field("local", description="Processes on this machine, or a Ray cluster.")
    count: int = Field(2, ge=1, description="Processes (local), among which the machine's threads are split.")
    address: str | None = Field(None, description="Of the Ray cluster; null starts one here.")


class Export(BaseModel):
    """The assignment that is exported and validated."""

    model_config = STRICT

    target: Literal["compressed-tensors", "quark", "mxsim"] = Field("mxsim", description="The layout; see docs/checkpoints.md.")
    method: str = Field("dmx", description="Whose assignment.")
    bits: float = Field(
        5.0,
        gt=0,
        allow_inf_nan=False,
        description="The budget in bits that the assignment is nearest to; of other budgets the first is taken.",
    )
    golden: int = Field(4, ge=0, description="Input rows a layer whose exact outputs are written beside; 0 is none.")
    unit: str = Field("nvidia_blackwell", description="The unit that golden outputs come from.")


class Configuration(BaseModel):
    """Everything that the main job does."""

    model_config = STRICT

    model: Place | None = Field(None, description="A folder or a hub name; null is the embedded model.")
    text: Place | None = Field(None, description="A UTF-8 file to search on; null is the embedded model's own.")
    report_text: Place | None = Field(
        None, description="A file to report on; null halves `text`: search on the first, report on the second."
    )
    budgets: Words = Field(["bits=4.5", "bits=5", "bits=5.5", "bits=6", "bits=7"], min_length=1, description="As `--budgets`.")
    methods: Words = Field(
        ["kl", "dmx", "fisher", "first_order", "uniform", "first_last", "kl_per_bit"], min_length=1, description="As `--methods`."
    )
    seeds: list[int] = Field([0], min_length=1, description="A run of each method that draws at random for each.")
    formats: Words = Field(["mxfp4_e2m1", "mxfp8_e4m3"], min_length=1, description="The ladder to choose from.")
    references: Words = Field(["mxfp4_e2m1", "mxfp6_e2m3", "mxfp8_e4m3"], description="Uniform formats drawn beside the fronts.")
    policy: str = Field("ocp", description="Whose conversion.")
    tie: bool = Field(False, description="q, k, v and gate, up take the same formats.")
    apart: bool = Field(True, description="Weights and inputs choose each for itself.")
    tokens: int = Field(16384, ge=1, description="Tokens of the text that searches and scores look at.")
    window: int | None = Field(None, ge=2, description="Tokens of a window; null is the model's longest, at most 512.")
    report_windows: int | None = Field(64, ge=1, description="Report on so many windows; null is all.")
    tasks: Words = Field([], description="Multiple-choice tasks, by name or file.")
    task_limit: int | None = Field(None, ge=1, description="Only so many questions of each.")
    search: dict[str, int | float | bool | str | None] = Field({}, description="Settings of the searches, as `--set`.")
    hardware: Hardware = Field(default_factory=Hardware, description="Where the model runs.")
    workers: Workers = Field(default_factory=Workers, description="Who does the runs.")
    export: Export | None = Field(default_factory=Export, description="What is exported and validated; null is nothing.")
    output: Place = Field("out/pareto", description="The folder for all of it; a second run there does only what is new.")


def read_configuration(path: Path | None, changes: Mapping[str, Any] | None = None) -> Configuration:
    """A configuration file with some keys changed; without a file the defaults.

    Raises: AnalysisError naming each key that is unknown or has a wrong value.
    """
    content: Any = {}
    where = "configuration"
    if path is not None:
        where = str(path)
        try:
            content = _without_doubles(path.read_text(encoding="utf-8"), where)
        except AnalysisError:
            raise
        except Exception as error:  # YAML's constructors raise what they meet: a day that there is not, a stack too deep
            raise AnalysisError(f"{where} cannot be read as YAML: {' '.join(str(error).split())}") from error
        content = {} if content is None else content
        if not isinstance(content, dict):
            raise AnalysisError(f"{where} holds a {type(content).__name__}: it must be keys with values, such as `tokens: 4096`")
    try:
        return Configuration.model_validate({**content, **(changes or {})})
    except ValidationError as error:
        raise AnalysisError(f"{where}: " + "; ".join(_told(one) for one in error.errors())) from error


def _without_doubles(text: str, where: str) -> Any:
    """YAML's content. Raises: AnalysisError naming a key that a block holds twice, of which YAML would drop the first in silence."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
            node = super().compose_mapping_node(anchor)
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    line = key.start_mark.line + 1
                    raise AnalysisError(f"{where} has the key {key.value!r} twice, the second time in line {line}: leave one of them out")
                seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
            return node

    return yaml.load(text, Loader)


def _told(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {name!r}: every key is in docs/configuration.md"
    says = str(error["ctx"]["error"]) if error["type"] == "value_error" else f"{error['msg'][0].lower()}{error['msg'][1:]}"
    return f"{name} is {error['input']!r}: {says}"


def reference() -> str:
    """Every key as a row of a Markdown table: what docs/configuration.md holds."""
    return "\n".join(["| key | default | means |", "|---|---|---|", *_rows(Configuration, "")])


def _rows(schema: type[BaseModel], prefix: str) -> list[str]:
    import yaml

    rows = []
    for name, field in schema.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            rows += [f"| `{prefix}{name}` | see below | {field.description} |", *_rows(type(default), f"{prefix}{name}.")]
        else:
            shown = yaml.safe_dump(default, default_flow_style=True, width=1000).removesuffix("...\n").strip()
            rows.append(f"| `{prefix}{name}` | `{shown}` | {field.description} |")
    return rows

"""A measured table on its way from the script that made it to the report that shows it: JSON, with the command."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.timing import markdown
from mxsim.files import renamed_when_whole


def write_table(path: Path, *, title: str, about: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write beside and rename. The command is this process's own, without the folders of the machine it ran on."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    module = Path(sys.argv[0]).stem
    content = {
        "title": title,
        "about": about,
        "command": " ".join(["python -m", f"reports.{module}", *words]),
        "head": list(head),
        "rows": [list(row) for row in rows],
    }
    with renamed_when_whole(path) as part:
        part.write_text(json.dumps(content, indent=1), encoding="utf-8")


def section(path: str | Path) -> str:
    """A table as Markdown under its title."""
    content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return f"## {content['title']}\n\n{content['about']} Command: `{content['command']}`.\n\n{markdown(content['head'], content['rows'])}\n"

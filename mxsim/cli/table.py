"""Plain text tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def table(head: Sequence[str] | None, rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Columns padded to their widest cell, two spaces apart; a rule under the head. right: columns aligned to the right."""
    lines = [*([head] if head else []), *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]

    def laid(line: Sequence[str]) -> str:
        cells = (c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        return "  ".join(cells).rstrip()

    text = [laid(line) for line in lines]
    if head:
        text.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(text)

"""`python -m benchmarks [SUBJECT ...]`: the benchmarks of this folder in turn, each in a process of its own, into reports/benchmarks.md.

Subjects that are not named keep the section they have there, and the machine that it names.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from mxsim.files import renamed_when_whole

HERE = Path(__file__).parent
REPORT = HERE.parent / "reports" / "benchmarks.md"
#: producers is none of them: it needs an environment for each library
SUBJECTS = ("conversion", "memory", "units", "costing", "search", "budgets", "validation", "start")


def processor() -> str:
    """The processor's name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def title(section: str) -> str:
    return section.partition("\n")[0]


def machine() -> str:
    packages = ", ".join(f"{p} {version(p)}" for p in ("numpy", "numba", "ml_dtypes"))
    return f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}"


def measured_here(section: str) -> str:
    """A section that says, below its title, which machine it was measured on: sections are measured at different times."""
    heading, _, text = section.partition("\n")
    return f"{heading}\n\nOn {machine()}.\n\n{text.strip()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"{', '.join(SUBJECTS)}; all when left out")
    asked = parser.parse_args().subjects or SUBJECTS
    if unknown := sorted(set(asked) - set(SUBJECTS)):
        parser.error(f"no subject {', '.join(unknown)}: choose from {', '.join(SUBJECTS)}")
    before = REPORT.read_text() if REPORT.exists() else ""
    sections = {title(part): part.strip() for part in re.split(r"^(?=## )", before, flags=re.MULTILINE)[1:]}
    for subject in tqdm(asked, desc="benchmarks", unit="subject"):
        command = [sys.executable, "-m", f"benchmarks.{subject}"]
        done = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=True)
        sections[title(done.stdout.strip())] = measured_here(done.stdout.strip())
    shared = "The machine is shared with other work: every figure is a median over turns, and ratios are taken within a turn."
    head = f"# Speed\n\nMade by `make bench`, each section on the machine that it names. {shared}"
    with renamed_when_whole(REPORT) as part:
        part.write_text("\n\n".join([head, *sections.values()]) + "\n")
    print(REPORT.relative_to(HERE.parent))


if __name__ == "__main__":
    main()

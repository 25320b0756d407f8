"""`python -m reports.archive SWEEP ...`: the records of sweeps, kept in reports/records, so that reports/search.md can be made again."""

from __future__ import annotations

import argparse
import io
import json
import shlex
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from analysis.records import read_results
from mxsim.files import renamed_when_whole

RECORDS = Path(__file__).parent / "records"
SUFFIX = ".tar.xz"


def keep(sweep: Path) -> Path:
    """Pack a sweep's records, the command of each without the folders of the machine it ran on."""
    target = RECORDS / f"{sweep.resolve().name}{SUFFIX}"
    RECORDS.mkdir(exist_ok=True)
    with renamed_when_whole(target) as part, tarfile.open(part, "w:xz") as archive:
        for record in read_results(sweep).records:
            content = json.loads(record.path.read_text(encoding="utf-8"))
            content["environment"]["command"] = without_folders(content["environment"]["command"])
            packed = json.dumps(content).encode()
            entry = tarfile.TarInfo(record.path.name)
            entry.size, entry.mtime = len(packed), int(record.path.stat().st_mtime)
            archive.addfile(entry, io.BytesIO(packed))
    return target


def without_folders(command: str) -> str:
    """A command whose words lost the folders of their paths; also one of an old record, which was written without quotes."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    return shlex.join(_last(word) for word in words)


def _last(word: str) -> str:
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return f"{option}{equals}{Path(value).name if '/' in value else value}"


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """A folder with an archive's records, for as long as the context lasts."""
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / archive.name.removesuffix(SUFFIX)
        with tarfile.open(archive) as packed:
            packed.extractall(records, filter="data")
        yield records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweeps", nargs="+", type=Path, help="folders that dmx sweep -o wrote")
    for sweep in parser.parse_args().sweeps:
        path = keep(sweep)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()

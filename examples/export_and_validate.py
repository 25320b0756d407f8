"""Export the embedded model with mixed formats, check every bit of the export, then damage one and check again."""

import tempfile
from pathlib import Path

import dmx
from mxsim.validation import validate

with tempfile.TemporaryDirectory() as place:
    assignment = dmx.allocate(None, "first_last", "bits=5.0")
    folder = dmx.export(None, assignment, "mxsim", Path(place) / "exported", golden=2)
    print("as written:", "valid" if validate(folder).ok else "not valid")
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    print("one bit flipped:", "valid" if validate(folder).ok else "not valid")

"""A format for every linear of the embedded model within 5 bits, found in a short search, beside the uniform formats."""

import dmx
from mxsim.assignment import Assignment

model = dmx.load_model()  # the embedded model; a folder or a hub name for one's own, with text="file.txt" below
found = dmx.search(model, "bits=5.0", steps=4, batch_windows=2, tokens=1024, refine=0)  # defaults take longer and find better
candidates = {
    "float": None,
    "uniform MXFP4": Assignment.uniform(model.linears, "mxfp4_e2m1"),
    f"dMX, {found.achieved['bits']:.2f} bits": found,
}
for name, assignment in candidates.items():
    print(f"{name}: perplexity {dmx.evaluate(model, assignment, windows=4)['perplexity']:.3f}")

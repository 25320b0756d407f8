"""What a token of Llama-3.1-8B costs on a B200 in each format, and what binds it."""

import mxsim

for format in ("bf16", "mxfp8_e4m3", "mxfp4_e2m1"):
    report = mxsim.cost("Llama-3.1-8B", "b200", format, phase="decode", batch=1, context=1024, assume=["b200-fp4-half-fp8"])
    print(f"{format}: {report.sum('weight_bytes') / 1e9:.2f} GB of weights, {report.sum('latency_s') * 1e3:.2f} ms a token")

"""Matrix units: what each computes, bit for bit.

spec.py      the description: one frozen MatmulUnit, a path for every pair of operand formats
presets.py   the table of named units, UNITS
toml.py      units that users describe in a file
operands.py  operand formats, and operands as the kernels take them
matmul.py    the face, mxsim.matmul
fast.py      quick kernels for finite operands of ordinary size; whatever they decline, mxsim.kernels.units computes
"""

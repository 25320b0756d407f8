"""Devices: rates, bandwidths and energies, each number with its provenance. To add a device, add one TOML file."""

from mxsim.devices.reader import device_names, load_device
from mxsim.devices.spec import ComputePath, Device, Figure

__all__ = ["ComputePath", "Device", "Figure", "device_names", "load_device"]

"""Drivers: one folder per family of wires. A device is a file of facts; the folder is the registry."""

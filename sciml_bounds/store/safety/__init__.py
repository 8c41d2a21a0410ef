"""Atomic writes, full disks, interrupts, and the warnings of other packages."""

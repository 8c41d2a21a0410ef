"""Atomic writes, protection against full disks and interrupts, and suppression of warnings of other packages."""

"""Circuits of one line and what a test adds to it, and the feeders that are read from them."""

from __future__ import annotations

from tieflow.common.circuit.extraction import compiled, extract_feeder
from tieflow.common.feeder.multiphase import MultiphaseFeeder

HEAD = """\
clear
new circuit.small bus1=a basekv=12.47 pu=1.02 r1=0.2 x1=1 r0=0.5 x0=2
new line.ab bus1=a bus2=b r1=1 x1=3 r0=2 x0=4 c1=5 c0=3 length=1
"""
BASES = "set voltagebases=(12.47 0.48 0.208)\ncalcvoltagebases\n"


def text(*commands: str) -> str:
    return HEAD + "\n".join(commands) + "\n" + BASES


def feeder_of(*commands: str) -> MultiphaseFeeder:
    return extract_feeder(compiled(text(*commands)), 1000.0)

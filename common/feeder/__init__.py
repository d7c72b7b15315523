"""The feeder in numbers, balanced or multi-phase, and its power flow."""

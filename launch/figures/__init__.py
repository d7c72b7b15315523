"""Results in numbers, for every report and picture."""

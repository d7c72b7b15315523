"""What a run gives: schedule, network state, terms, violations; and its file."""

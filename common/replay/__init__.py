"""A schedule in OpenDSS, which has the last word."""

"""What a case folder says: tables, settings, weights, devices, profiles."""

"""The command line: what the words after ``tieflow`` do."""

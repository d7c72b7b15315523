"""How areas and coordinator reach each other."""

"""What runs inside the engine's own environment. Imports the standard library only."""

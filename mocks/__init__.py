"""Mocks behind `call` steps: simulated twins here, live ones later."""

"""Synthetic training images: simulated phantoms and recombined real cells."""

"""The demo: four organizations, a quarter of billing, and the proofs that it was right."""

"""Bringing about Stripe's events offline: scenes at the local Stripe, and signed fixtures of any version."""

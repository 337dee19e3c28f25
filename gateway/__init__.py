"""The only door to Stripe: every call out, every word in, and nothing of Stripe's SDK beyond it."""

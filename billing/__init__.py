"""The pure rules of billing: standard library only, no clock, no database, no network."""

"""The pages: what the sandbox holds, and a place to play the customer."""

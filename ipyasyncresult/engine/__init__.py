"""The engine processes and the nursery that forks them."""

"""The hub process: queues, assigns, watches engines, keeps results.  It never opens user data."""

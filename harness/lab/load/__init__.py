"""Load: an engine behind HTTP, driven by Locust through the fault proxy, and judged under it."""

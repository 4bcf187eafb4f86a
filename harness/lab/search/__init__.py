"""The search: programs nobody wrote, every point at which to cut in, the smallest proof."""

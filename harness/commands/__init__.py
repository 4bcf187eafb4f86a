"""The commands: one module a group, each adds its parsers by `add` and calls the rooms."""

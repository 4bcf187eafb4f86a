"""One adapter a file: each turns dagstorm's programs into one engine's own pipelines."""

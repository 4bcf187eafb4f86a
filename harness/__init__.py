"""dagstorm: stress and chaos for asyncio DAG engines, judged against a contract."""

__version__ = "0.1.0"

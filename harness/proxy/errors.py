"""What a request can be answered with instead of success: the API's errors, and its texts."""

from __future__ import annotations

__all__ = [
    "INVALID_STREAM",
    "INVALID_TYPE",
    "PROXY_EXISTS",
    "PROXY_NOT_FOUND",
    "TOXIC_EXISTS",
    "TOXIC_NOT_FOUND",
    "ApiError",
]


class ApiError(Exception):
    """A request failed; status and text go to the client as they stand."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


PROXY_NOT_FOUND = (404, "proxy not found")
PROXY_EXISTS = (409, "proxy already exists")
TOXIC_NOT_FOUND = (404, "toxic not found")
TOXIC_EXISTS = (409, "toxic already exists")
INVALID_TYPE = (400, "invalid toxic type")
INVALID_STREAM = (400, "stream was invalid, can be either upstream or downstream")

"""The node's own web pages: HTML made here, and files beside that a browser runs without any build."""

from .serving import Pages, add_pages, is_open

__all__ = ["Pages", "add_pages", "is_open"]

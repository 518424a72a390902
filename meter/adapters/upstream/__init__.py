"""Calling backends: HTTP/1.1 on httptools and asyncio."""

"""Decides what each request is for, and hands it to an exchange, a page or a WebSocket."""

"""Adapters: convert networks and data of other libraries to fairjax's types, and back. No other module imports them."""

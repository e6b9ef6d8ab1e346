"""Adapters: networks and data of other libraries to fairjax's, and back. No other module imports them."""

"""Adapters: convert data of other libraries to fairjax's types and back, and run their postprocessors."""

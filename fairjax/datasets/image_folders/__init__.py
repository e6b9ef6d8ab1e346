"""Folders of images with attributes, in the layouts of well-known data sets; `LAYOUTS` holds them by name."""

from fairjax.datasets.image_folders.layouts import LAYOUTS, AttributeTable, Layout
from fairjax.datasets.image_folders.loading import ImageData, image_folder

__all__ = ["LAYOUTS", "AttributeTable", "ImageData", "Layout", "image_folder"]

"""The command line `fairjax`."""
